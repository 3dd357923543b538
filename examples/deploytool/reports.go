package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/abswap/abswap"
)

// reportOf tells what the journal says of one swap, or of the newest where swap is "". It asks nobody else. ErrNothingToDo if there is none.
func (c *config) reportOf(ctx context.Context, journal abswap.Journal, swap string) (*abswap.Report, error) {
	s := &abswap.Swapper{Switcher: nowhere{}, Journal: journal}
	if swap != "" {
		s.Journal = oneSwap{journal, swap}
	}
	for _, slot := range c.Slots {
		s.Slots = append(s.Slots, named(slot.Name))
	}
	st, err := s.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Newest == nil {
		if _, err := s.Journal.Swaps(ctx); err != nil {
			return nil, err
		}
		for _, p := range st.Problems {
			if strings.Contains(p, "journal") {
				return nil, errors.New(p)
			}
		}
		return nil, abswap.ErrNothingToDo
	}
	return st.Newest, nil
}

// oneSwap is a journal of which only one swap is seen.
type oneSwap struct {
	abswap.Journal
	id string
}

func (j oneSwap) Swaps(context.Context) ([]string, error) { return []string{j.id}, nil }

// nowhere is the Switcher of a Swapper that only reads its journal.
type nowhere struct{}

func (nowhere) Active(context.Context) (string, error) { return "", abswap.ErrNoActive }
func (nowhere) Activate(context.Context, abswap.Slot) error {
	return fmt.Errorf("this only reads: %w", errors.ErrUnsupported)
}
func (nowhere) InFlight(context.Context, abswap.Slot) (abswap.Load, error) { return abswap.Load{}, nil }

// named is a slot of which only the name counts.
type named string

func (n named) Name() string                { return string(n) }
func (n named) Ready(context.Context) error { return nil }

// past is one line of the history.
type past struct {
	abswap.Report
	By string `json:"by"` // who ran it
}

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
		rep, err := t.cfg.reportOf(ctx, journal, t.args[0])
		if err != nil {
			return t.fail(exitFailed, err)
		}
		t.steps(rep)
		return exitOK
	}
	all, code := []past{}, exitOK
	for _, id := range ids[:min(len(ids), max(t.o.count, 0))] {
		p, err := t.past(ctx, journal, id)
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
			outcomeText(&p.Report), took, p.By, oneLine(p.Err, 100))
	}
	tw.Flush()
	return code
}

func (t *tool) past(ctx context.Context, journal abswap.Journal, id string) (past, error) {
	rep, err := t.cfg.reportOf(ctx, journal, id)
	if err != nil {
		return past{}, err
	}
	p := past{Report: *rep}
	records, err := journal.Records(ctx, id)
	if err != nil {
		return past{}, err
	}
	if len(records) > 0 && records[0].Begin != nil {
		p.By = records[0].Begin.Owner.User + "@" + records[0].Begin.Owner.Host
	}
	return p, nil
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
