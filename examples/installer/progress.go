package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// progress prints what happens, with per cents as installers do: they say how far along the steps it is, not how long it will take.
type progress struct {
	mu     sync.Mutex
	out    io.Writer
	warned map[string]bool
	at     int // per cents
}

// step is a phase of a deploy that is worth a line, with the per cents at which it begins.
type step struct {
	at   int
	text string
}

func steps() map[abswap.Phase]step {
	return map[abswap.Phase]step{
		abswap.PhasePreparing:   {5, "the idle slot is freed"},
		abswap.PhaseInstalling:  {10, "the files are copied and compared"},
		abswap.PhaseStarting:    {40, "the new version is started and probed"},
		abswap.PhaseWarming:     {50, "it is warmed"},
		abswap.PhaseShifting:    {60, "all new work goes to it"},
		abswap.PhaseSoaking:     {70, "it is watched under work"},
		abswap.PhaseDraining:    {80, "the old version finishes what it has"},
		abswap.PhaseReverting:   {60, "the new version got sick: back to the old one"},
		abswap.PhaseRevDraining: {80, "what had begun in the new version finishes"},
		abswap.PhaseDiscarding:  {90, "what was done is undone"},
	}
}

func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *progress) ask(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprint(p.out, text)
}

// step prints a line with the per cents.
func (p *progress) step(at int, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
	fmt.Fprintf(p.out, "[%3d%%] %s\n", at, fmt.Sprintf(format, args...))
}

func (p *progress) begin(what string)              { p.step(0, "%s", what) }
func (p *progress) end(format string, args ...any) { p.step(100, format, args...) }

// event is Swapper.OnEvent.
func (p *progress) event(e abswap.Event) {
	switch e.Kind {
	case abswap.EventPhase:
		if s, ok := steps()[e.Phase]; ok {
			p.step(s.at, "%s", s.text)
		}
	case abswap.EventDone:
		if e.Err != nil {
			p.line("       %s: %v", e.Phase, e.Err)
		}
	case abswap.EventWarning:
		p.mu.Lock()
		told := p.warned[e.Message]
		if p.warned == nil {
			p.warned = map[string]bool{}
		}
		p.warned[e.Message] = true
		p.mu.Unlock()
		if !told {
			p.line("       warning: %s", e.Message)
		}
	}
}

// copied is folder.Config.OnProgress: a line for each tenth of the bytes.
func (p *progress) copied(c folder.Progress) {
	if c.Step != folder.StepCopy || c.Full == 0 {
		return
	}
	if at := 10 + int(30*c.Bytes/c.Full); at >= p.at+3 {
		p.step(at, "%d of %d files copied", c.Files, c.Of)
	}
}

// switched is iis.App.OnSwitch.
func (p *progress) switched(s iis.Switched) {
	gap := "no probe failed"
	if s.Failed > 0 {
		gap = "a gap of " + s.Gap.Round(time.Millisecond).String()
	}
	p.line("       in force after %s; %s; the slowest answer took %s", s.Took.Round(time.Millisecond), gap, s.Longest.Round(time.Millisecond))
}
