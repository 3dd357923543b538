package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// progress tells what happens while it happens: on a terminal a line for each step and a live one below them with what is going on; in a
// CI job's log plain lines with the time; or each event as a line of JSON.
type progress struct {
	out      io.Writer
	json     bool
	terminal bool

	mu    sync.Mutex
	wide  int       // runes of the live line on the screen
	doing string    // what the live line says
	since time.Time // when that began
	told  string    // the drain count of the last plain line
	at    time.Time // when that was

	drain  drainConfig                                     // the rules that drains go by
	report func(swap string) (abswap.Report, error)        // of a swap that runs; nil: there is none
	began  drainBegin                                      // of the drain under way
	by     map[string]map[abswap.Class]abswap.ClassOutcome // of each slot, at its last reading

	done chan struct{} // nil: no live line
	wg   sync.WaitGroup
}

func newProgress(out io.Writer, asJSON, terminal bool) *progress {
	p := &progress{out: out, json: asJSON, terminal: terminal && !asJSON, by: map[string]map[abswap.Class]abswap.ClassOutcome{}}
	if p.terminal {
		p.done = make(chan struct{})
		p.wg.Go(p.animate)
	}
	return p
}

// isTerminal tells whether somebody watches: a CI job has no terminal, or says that it is one.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("CI") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// animate redraws the live line until close.
func (p *progress) animate() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		}
	}
}

func (p *progress) draw() {
	if p.doing == "" {
		return
	}
	p.wipe()
	text := fmt.Sprintf("         %s, for %s", p.doing, time.Since(p.since).Round(time.Second))
	if runes := []rune(text); len(runes) > 79 { // a line that wraps cannot be wiped
		text = string(runes[:79])
	}
	fmt.Fprint(p.out, text)
	p.wide = len([]rune(text))
}

func (p *progress) wipe() {
	if p.wide > 0 {
		fmt.Fprintf(p.out, "\r%s\r", strings.Repeat(" ", p.wide))
		p.wide = 0
	}
}

// close takes the live line away. It may be called again.
func (p *progress) close() {
	if p.done != nil {
		close(p.done)
		p.wg.Wait()
		p.wipe()
		p.done = nil
	}
}

// line writes one line with the time.
func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	stamp := time.Now().Format(time.RFC3339)
	if p.terminal {
		stamp = time.Now().Format(time.TimeOnly)
	}
	fmt.Fprintf(p.out, "%s %s\n", stamp, fmt.Sprintf(format, args...))
}

// do sets what the live line says.
func (p *progress) do(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing, p.since = fmt.Sprintf(format, args...), time.Now()
}

// event is the Swapper's OnEvent.
func (p *progress) event(e abswap.Event) {
	if p.json {
		p.eventJSON(e)
		return
	}
	switch e.Kind {
	case abswap.EventPhase:
		p.do("%s", e.Phase)
		p.begin(e)
		if text := phaseText(e); text != "" {
			p.line("%s", text)
		}
	case abswap.EventDone:
		switch {
		case e.Err != nil:
			p.line("%s: %s: %v", e.Phase, e.Result, e.Err)
		case e.Phase == abswap.PhaseDraining && e.Slot != "":
			text := fmt.Sprintf("slot %s has finished all it had, after %s", e.Slot, e.Elapsed.Round(time.Millisecond))
			if by := outcomesText(p.by[e.Slot]); by != "" {
				text += ": " + by
			}
			p.line("%s", text)
		}
	case abswap.EventLoad:
		p.load(e)
	case abswap.EventWarning:
		p.line("warning: %s", e.Message)
	case abswap.EventNote, abswap.EventAwaiting:
		p.line("%s", e.Message)
		p.do("%s: %s", e.Phase, e.Message)
	}
}

// load tells a drain count: always in the live line; in the log, and where it is of several classes, when it has changed and some time has passed.
func (p *progress) load(e abswap.Event) {
	text := fmt.Sprintf("slot %s: %s left", e.Slot, loadText(e.Load))
	key := text // without what changes with the clock
	p.by[e.Slot] = e.Classes
	var until func(abswap.Class) string
	if e.Phase == abswap.PhaseDraining {
		until = func(c abswap.Class) string { return p.drain.until(c, p.began) }
	}
	live := text
	kinds := 0 // of work that is left: the live line has room for one
	for _, o := range e.Classes {
		if o.Left > 0 {
			kinds++
		}
	}
	if by := leftText(e.Classes, until); by != "" {
		text, live = text+": "+by, "slot "+e.Slot+": "+by
		key += outcomesText(e.Classes)
	}
	p.mu.Lock()
	began := p.since
	p.doing = live
	again := p.terminal && kinds < 2 || key == p.told || time.Since(p.at) < 5*time.Second || e.Load.Total() == 0
	if !again {
		p.told, p.at = key, time.Now()
	}
	p.mu.Unlock()
	if !again {
		p.line("%s, for %s", text, time.Since(began).Round(time.Second))
	}
}

// begin notes when a drain began: an earlier run may have begun it.
func (p *progress) begin(e abswap.Event) {
	if e.Phase != abswap.PhaseDraining {
		return
	}
	p.began = drainBegin{e.Time, e.Time}
	if p.report == nil {
		return
	}
	if rep, err := p.report(e.Swap); err == nil {
		if b := beganIn(&rep); !b.first.IsZero() {
			p.began.first = b.first
		}
	}
}

func loadText(l abswap.Load) string {
	if l.Evidence == abswap.EvidenceUnknown {
		return "an unknown number of requests"
	}
	text := count(l.Requests, "request")
	if l.Upgraded > 0 {
		text += " and " + count(l.Upgraded, "upgraded connection")
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// phaseText says what a phase is about to do; "" for those that need no words.
func phaseText(e abswap.Event) string {
	switch e.Phase {
	case abswap.PhasePreparing:
		if e.From == "" {
			return fmt.Sprintf("swap %s: the first one, to slot %s", e.Swap, e.To)
		}
		return fmt.Sprintf("swap %s: from slot %s to slot %s", e.Swap, e.From, e.To)
	case abswap.PhaseInstalling:
		return fmt.Sprintf("release %s is installed into slot %s", e.Release, e.To)
	case abswap.PhaseStarting:
		return fmt.Sprintf("slot %s is started and probed", e.To)
	case abswap.PhaseShifting:
		return fmt.Sprintf("%d %% of the new work to slot %s", e.Percent, e.To)
	case abswap.PhaseSoaking:
		return fmt.Sprintf("slot %s is watched under %d %% of the work", e.To, e.Percent)
	case abswap.PhaseCommitting:
		return "committed"
	case abswap.PhaseDraining:
		return "the old slot finishes what it has"
	case abswap.PhaseRetaining:
		return "the old slot is kept warm"
	case abswap.PhaseStopping:
		return "the old slot is stopped"
	case abswap.PhaseReverting:
		if e.From == "" {
			return "back to nothing"
		}
		return fmt.Sprintf("back to slot %s", e.From)
	case abswap.PhaseRevDraining:
		return fmt.Sprintf("slot %s finishes what it has", e.To)
	case abswap.PhaseDiscarding:
		return fmt.Sprintf("slot %s is cleared", e.To)
	}
	return ""
}

// summary is the last line.
func (p *progress) summary(rep abswap.Report, err error) {
	if rep.ID == "" {
		if err == nil {
			p.line("nothing to do: slot %s serves already", rep.Serving)
		}
		return
	}
	serving := "no slot serves"
	if rep.Serving != "" {
		serving = fmt.Sprintf("slot %s serves", rep.Serving)
	}
	outcome := string(rep.Outcome)
	if outcome == "" {
		outcome = "under way in phase " + string(rep.Phase)
	}
	p.line("%s; %s", outcome, serving)
	for _, s := range rep.NotUndone {
		p.line("left as it is: %s", s)
	}
	if rep.Outcome == abswap.OutcomeStillDraining && len(rep.Drains) > 0 {
		last := rep.Drains[len(rep.Drains)-1]
		if by := outcomesText(last.Classes); by != "" {
			p.line("slot %s: %s", last.Slot, by)
		}
		for _, w := range last.Left {
			p.line("left: %s %s %s from %s, %s old, %d bytes in, %d out", w.Kind, w.Method, w.Path, w.Peer, w.Age.Round(time.Second), w.In, w.Out)
		}
	}
}

// eventJSON writes an event as one line.
func (p *progress) eventJSON(e abswap.Event) {
	x := struct {
		Time    time.Time        `json:"time"`
		Kind    abswap.EventKind `json:"kind"`
		Swap    string           `json:"swap"`
		Phase   abswap.Phase     `json:"phase"`
		Round   int              `json:"round,omitempty"`
		Percent int              `json:"percent,omitempty"`
		Release string           `json:"release,omitempty"`
		From    string           `json:"from,omitempty"`
		To      string           `json:"to"`
		Slot    string           `json:"slot,omitempty"`
		Load    *abswap.Load     `json:"load,omitempty"`

		Classes map[abswap.Class]abswap.ClassOutcome `json:"classes,omitempty"`

		Result  abswap.Result  `json:"result,omitempty"`
		Outcome abswap.Outcome `json:"outcome,omitempty"`
		Millis  int64          `json:"elapsed_ms,omitempty"`
		Message string         `json:"message,omitempty"`
		Err     string         `json:"error,omitempty"`
	}{Time: e.Time, Kind: e.Kind, Swap: e.Swap, Phase: e.Phase, Round: e.Round, Percent: e.Percent, Release: e.Release, From: e.From, To: e.To,
		Slot: e.Slot, Result: e.Result, Outcome: e.Outcome, Millis: e.Elapsed.Milliseconds(), Message: e.Message,
		Classes: e.Classes}
	if e.Kind == abswap.EventLoad {
		x.Load = &e.Load
	}
	if e.Err != nil {
		x.Err = e.Err.Error()
	}
	json.NewEncoder(p.out).Encode(x)
}
