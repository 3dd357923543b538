package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/abswap/abswap"
)

// progress tells what happens while it happens: a line for each event and, on a terminal, one live line below them.
type progress struct {
	out      io.Writer
	terminal bool
	epoch    time.Time

	mu       sync.Mutex
	live     int       // width of the live line that is on the screen
	lastLoad time.Time // when a drain count was last told in a line of its own
	lastLeft string    // and which

	told map[string]bool // warnings; of the goroutine that calls event
}

func newProgress(out io.Writer, epoch time.Time) *progress {
	p := &progress{out: out, epoch: epoch, told: map[string]bool{}}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// line writes a line with the time in front. indent sets it below another one.
func (p *progress) line(indent, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.out, "%6.2fs  %s%s\n", time.Since(p.epoch).Seconds(), indent, fmt.Sprintf(format, args...))
}

// wipe takes the live line off the screen.
func (p *progress) wipe() {
	if p.live > 0 {
		fmt.Fprintf(p.out, "\r%s\r", strings.Repeat(" ", p.live))
		p.live = 0
	}
}

// watch shows status in the live line again and again until the returned function is called. Without a terminal it does nothing.
func (p *progress) watch(status func() string) (stop func()) {
	if !p.terminal {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			text := "         " + status()
			p.mu.Lock()
			p.wipe()
			fmt.Fprint(p.out, text)
			p.live = utf8.RuneCountInString(text)
			p.mu.Unlock()
		}
	})
	return func() {
		close(done)
		wg.Wait()
		p.mu.Lock()
		p.wipe()
		p.mu.Unlock()
	}
}

// event tells what the Swapper does.
func (p *progress) event(e abswap.Event) {
	const indent = "    "
	switch e.Kind {
	case abswap.EventPhase:
		if text := phaseText(e); text != "" {
			p.line(indent, "%s", text)
		}
	case abswap.EventDone:
		if e.Err != nil {
			p.line(indent, "%s: %s: %v", e.Phase, e.Result, e.Err)
		}
	case abswap.EventLoad:
		p.load(indent, e)
	case abswap.EventWarning, abswap.EventNote, abswap.EventAwaiting:
		text := e.Message
		if e.Err != nil {
			text = e.Err.Error()
		}
		if !p.told[text] { // a standing warning comes with each deploy
			p.told[text] = true
			p.line(indent, "%s", text)
		}
	case abswap.EventEnd:
		p.line(indent, "%s", e.Outcome)
	}
}

// load tells a drain count, at most once a second where the live line does not show it anyway.
func (p *progress) load(indent string, e abswap.Event) {
	text := fmt.Sprintf("%s: %s left", e.Slot, leftText(e))
	p.mu.Lock()
	again := p.terminal || time.Since(p.lastLoad) < time.Second || text == p.lastLeft
	if e.Load.Total() == 0 {
		text, again = fmt.Sprintf("%s: nothing left", e.Slot), false
	}
	if !again {
		p.lastLoad, p.lastLeft = time.Now(), text
	}
	p.mu.Unlock()
	if !again {
		p.line(indent, "%s", text)
	}
}

// leftText tells what a slot still has, by class: "1 upload, 3 tunnels".
func leftText(e abswap.Event) string {
	var all []string
	for _, c := range slices.Sorted(maps.Keys(e.Classes)) {
		if n := e.Classes[c].Left; n > 0 {
			all = append(all, count(n, string(c)))
		}
	}
	if all == nil {
		return count(e.Load.Total(), "piece") + " of work"
	}
	return strings.Join(all, ", ")
}

// count writes a number of things.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(n) + " " + what
}

// phaseText says what a phase is about to do; "" for those that need no words here.
func phaseText(e abswap.Event) string {
	switch e.Phase {
	case abswap.PhaseInstalling:
		return fmt.Sprintf("%s is installed into slot %s", e.Release, e.To)
	case abswap.PhaseStarting:
		return fmt.Sprintf("slot %s is started and probed", e.To)
	case abswap.PhaseShifting:
		return fmt.Sprintf("%d %% of the new work to slot %s", e.Percent, e.To)
	case abswap.PhaseSoaking:
		return "it is watched under real work"
	case abswap.PhaseCommitting:
		return "committed"
	case abswap.PhaseDraining:
		return fmt.Sprintf("slot %s finishes what it has", e.From)
	case abswap.PhaseReverting:
		return fmt.Sprintf("back to slot %s", e.From)
	case abswap.PhaseRevDraining:
		return fmt.Sprintf("slot %s finishes what it has", e.To)
	case abswap.PhaseDiscarding:
		return fmt.Sprintf("slot %s is cleared", e.To)
	}
	return ""
}
