package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/abswap/abswap"
)

// state is all that status knows.
type state struct {
	abswap.Status
	Listen     string      `json:"listen"`
	Proxy      string      `json:"proxy,omitempty"` // why it cannot be asked; "": it answers
	Supervisor *supervisor `json:"supervisor,omitempty"`
}

func (t *tool) status(ctx context.Context) int {
	if !t.o.watch {
		st, code, err := t.look(ctx)
		if err != nil {
			return t.fail(code, err)
		}
		t.show(t.out, st)
		return code
	}
	clear := isTerminal(t.out) && !t.o.json
	var before string
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		st, code, err := t.look(ctx)
		if ctx.Err() != nil {
			return exitOK
		}
		if err != nil {
			return t.fail(code, err)
		}
		var text bytes.Buffer
		t.show(&text, st)
		switch {
		case clear:
			fmt.Fprintf(t.out, "\x1b[H\x1b[2J%s\n%s", time.Now().Format(time.TimeOnly), text.Bytes())
		case steady(st) != before:
			if !t.o.json {
				fmt.Fprintln(t.out, time.Now().Format(time.RFC3339))
			}
			t.out.Write(text.Bytes())
		}
		before = steady(st)
		select {
		case <-ctx.Done():
			return exitOK
		case <-tick.C:
		}
	}
}

// steady is st without what only the clock changes, to be compared.
func steady(st *state) string {
	x := *st
	x.Slots = slices.Clone(x.Slots)
	for i := range x.Slots {
		by := maps.Clone(x.Slots[i].Classes)
		for c, o := range by {
			o.Oldest, o.Quiet, o.In, o.Out = 0, 0, 0, 0
			by[c] = o
		}
		x.Slots[i].Classes = by
	}
	text, err := json.Marshal(x)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// look asks the proxy, the slots, the journal and the supervisor. Without the proxy the others are asked all the same.
func (t *tool) look(ctx context.Context) (*state, int, error) {
	st := &state{Listen: t.cfg.Listen}
	s, err := t.session(ctx)
	defer s.close()
	code := exitOK
	if err != nil {
		if s == nil && !errors.Is(err, errUnreachable) {
			return nil, exitFailed, err
		}
		st.Proxy, code = err.Error(), exitUnreachable
	}
	if s != nil {
		if st.Status, err = s.Status(ctx); err != nil {
			return nil, exitFailed, err
		}
		if st.Proxy != "" { // said once
			st.Problems = slices.DeleteFunc(st.Problems, func(p string) bool { return strings.Contains(p, "proxy: client: ") })
		}
	}
	st.Supervisor, err = readSupervisor(t.cfg.superFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		st.Problems = append(st.Problems, err.Error())
	}
	return st, code, nil
}

func (t *tool) show(w io.Writer, st *state) {
	if t.o.json {
		json.NewEncoder(w).Encode(st)
		return
	}
	if st.Proxy != "" {
		fmt.Fprintf(w, "front door   %s: %s\n", st.Listen, st.Proxy)
	} else {
		fmt.Fprintf(w, "front door   %s: new work goes to %s\n", st.Listen, partsText(st.Slots))
	}
	if o := st.Owner; o != nil {
		fmt.Fprintf(w, "running      %s by %s on %s (process %d) since %s\n", orDash(o.Release), o.User, o.Host, o.PID, o.Since.Local().Format(time.DateTime))
	} else {
		fmt.Fprintln(w, "running      no deploy")
	}
	if n := st.Newest; n != nil {
		fmt.Fprintf(w, "newest swap  %s: release %s, slot %s to %s: %s\n", n.ID, orDash(n.Release), orDash(n.From), n.To, outcomeText(n))
		if hint := hintFor(n, st.Owner != nil); hint != "" {
			fmt.Fprintf(w, "             %s\n", hint)
		}
		if n.Awaiting != "" {
			fmt.Fprintf(w, "             %s\n", n.Awaiting)
		}
		if n.Err != "" {
			fmt.Fprintf(w, "             %s\n", oneLine(n.Err, 200))
		}
	} else {
		fmt.Fprintln(w, "newest swap  none yet")
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SLOT\tPART\tRELEASE\tPROCESS\tADDRESS\tIN FLIGHT\tFIT\tSUPERVISOR")
	for _, s := range st.Slots {
		process, fit := "not running", "-"
		if s.State.Running {
			process, fit = "since "+s.State.Started.Local().Format(time.DateTime), "yes"
			if s.Ready != "" {
				fit = "no"
			}
		}
		flight := loadText(s.Load)
		if st.Proxy != "" {
			flight = "unknown"
		}
		fmt.Fprintf(tw, "%s\t%d %%\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Part, orDash(s.State.Release), process, orDash(s.State.Address), flight, fit,
			st.Supervisor.text(s.Name))
	}
	tw.Flush()
	t.showClasses(w, st)
	for _, p := range st.Problems {
		fmt.Fprintf(w, "problem: %s\n", oneLine(p, 300))
	}
}

// showClasses tells what the slots that take no new work still have, by class.
func (t *tool) showClasses(w io.Writer, st *state) {
	var began drainBegin
	if n := st.Newest; n != nil && (n.Phase == abswap.PhaseDraining || n.Outcome == abswap.OutcomeStillDraining) {
		began = beganIn(n)
	}
	tw, head := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), false
	for _, s := range st.Slots {
		if s.Part > 0 || st.Proxy != "" {
			continue
		}
		for _, c := range sortedClasses(s.Classes) {
			o := s.Classes[c]
			if !head {
				fmt.Fprintln(tw, "\nDRAINS\tWORK\tOLDEST\tSTILL FOR\tUNTIL")
				head = true
			}
			until := "it ends"
			if st.Owner != nil {
				until = t.cfg.Deploy.Drain.until(c, began)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", s.Name, count(o.Left, string(c)), shortly(o.Oldest.Round(time.Second)), shortly(o.Quiet.Round(time.Second)), until)
		}
	}
	tw.Flush()
}

func partsText(slots []abswap.SlotStatus) string {
	text := ""
	for _, s := range slots {
		if s.Part > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%s (%d %%)", s.Name, s.Part)
		}
	}
	if text == "" {
		return "no slot"
	}
	return text
}

// hintFor tells what a person can do about the newest swap.
func hintFor(n *abswap.Report, held bool) string {
	switch {
	case n.Outcome == abswap.OutcomeSuspended:
		return "it needs a decision: resume, adopt, cancel or abandon"
	case n.Outcome == abswap.OutcomeStillDraining:
		return "the old slot has work left; \"deploytool resume\" waits for it"
	case n.Outcome == abswap.OutcomeNone && !held:
		return "its process is gone: \"deploytool resume\" finishes it"
	}
	return ""
}
