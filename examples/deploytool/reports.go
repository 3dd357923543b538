package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/abswap/abswap"
)

// history lists the deploys of the past, newest first, or tells the steps of one.
func (t *tool) history(ctx context.Context) int {
	journal, err := t.open(t.cfg.journalDir(), abswap.JournalOptions{Keep: t.cfg.KeepSwaps})
	if err != nil {
		return t.fail(exitFailed, err)
	}
	ids, err := journal.Swaps(ctx)
	if err != nil {
		return t.fail(exitFailed, err)
	}
	if len(t.args) > 0 {
		if !slices.Contains(ids, t.args[0]) {
			return t.fail(exitUsage, fmt.Errorf("swap %q is not in the journal; \"deploytool history\" lists them", t.args[0]))
		}
		rep, err := abswap.ReadReport(ctx, journal, t.args[0])
		if err != nil {
			return t.fail(exitFailed, err)
		}
		t.steps(&rep)
		return exitOK
	}
	all, code := []abswap.Report{}, exitOK
	for _, id := range ids[:min(len(ids), max(t.o.count, 0))] {
		p, err := abswap.ReadReport(ctx, journal, id)
		if err != nil { // one that is damaged does not hide the others
			code = t.fail(exitFailed, err)
			continue
		}
		all = append(all, p)
	}
	if t.o.json {
		t.json(all)
		return code
	}
	tw := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SWAP\tSTARTED\tRELEASE\tSLOTS\tOUTCOME\tTOOK\tBY\tERROR")
	for _, p := range all {
		took := "-"
		if !p.Ended.IsZero() {
			took = p.Ended.Sub(p.Started).Round(10 * time.Millisecond).String()
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s > %s\t%s\t%s\t%s\t%s\n", p.ID, p.Started.Local().Format(time.DateTime), orDash(p.Release), orDash(p.From), p.To,
			outcomeText(&p), took, p.By.User+"@"+p.By.Host, oneLine(p.Err, 100))
	}
	tw.Flush()
	return code
}

// steps tells all of one swap.
func (t *tool) steps(rep *abswap.Report) {
	if t.o.json {
		t.json(rep)
		return
	}
	fmt.Fprintf(t.out, "%s: release %s, slot %s to %s: %s\n", rep.ID, orDash(rep.Release), orDash(rep.From), rep.To, outcomeText(rep))
	tw := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, s := range rep.Steps {
		result := string(s.Result)
		if result == "" {
			result = "(not ended)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", s.Started.Local().Format("15:04:05.000"), s.Phase, result, s.Elapsed.Round(time.Millisecond),
			strings.TrimSpace(s.Note+" "+s.Err))
	}
	tw.Flush()
	for _, d := range rep.Drains {
		fmt.Fprintf(t.out, "drain of slot %s: drained %v after %s, %s left (%s evidence)\n", d.Slot, d.Drained, d.Waited.Round(time.Millisecond),
			loadText(d.Last), d.Last.Evidence)
		for _, c := range sortedClasses(d.Classes) {
			fmt.Fprintf(t.out, "  %s\n", outcomesText(map[abswap.Class]abswap.ClassOutcome{c: d.Classes[c]}))
		}
	}
	for _, w := range rep.Warnings {
		fmt.Fprintf(t.out, "warning: %s\n", w)
	}
	for _, u := range rep.Undone {
		fmt.Fprintf(t.out, "undone: %s\n", u)
	}
	for _, u := range rep.NotUndone {
		fmt.Fprintf(t.out, "could not be undone: %s\n", u)
	}
	if rep.Err != "" {
		fmt.Fprintf(t.out, "error: %s\n", rep.Err)
	}
}

func outcomeText(rep *abswap.Report) string {
	if rep.Outcome == abswap.OutcomeNone {
		return "unfinished in phase " + string(rep.Phase)
	}
	return string(rep.Outcome)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// oneLine cuts a text for a table.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
