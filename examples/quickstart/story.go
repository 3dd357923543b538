package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap"
)

// story is one run: the acts, the load, and what was seen.
type story struct {
	o       options
	say     *progress
	epoch   time.Time
	dir     string
	addr    string // of the front door
	door    abswap.Drainer
	slots   []abswap.Slot
	moves   *watched
	swapper func() *abswap.Swapper
	load    *load

	now  act // that is being played
	acts []deployment
}

// act is one deploy, or the way back.
type act struct {
	name    string
	release release               // that is deployed; without a version: back to the slot that was kept warm
	adjust  func(*abswap.Swapper) // nil: the Swapper is used as it comes
	want    abswap.Outcome
	serving string // version that answers afterwards

	// transfers begin when all new work goes to the new slot, so that the next switch finds them in the middle.
	transfers []transfer
}

type transfer struct {
	kind    kind
	seconds float64
}

// script is what happens. All acts but the first one happen under load.
func script() []act {
	return []act{{
		name:    "v1, the first",
		release: release{Version: "v1", Behaviour: healthy},
		want:    abswap.OutcomeSucceeded,
		serving: "v1",
	}, {
		name:      "v2",
		release:   release{Version: "v2", Behaviour: healthy},
		want:      abswap.OutcomeSucceeded,
		serving:   "v2",
		transfers: []transfer{{kindUpload, 11.5}, {kindDownload, 13.5}},
	}, {
		name:      "v3, in steps",
		release:   release{Version: "v3", Behaviour: healthy},
		adjust:    func(s *abswap.Swapper) { s.Steps = []int{5, 25} },
		want:      abswap.OutcomeSucceeded,
		serving:   "v3",
		transfers: []transfer{{kindUpload, 14}},
	}, {
		name:    "v4, never healthy",
		release: release{Version: "v4", Behaviour: neverHealthy},
		adjust:  func(s *abswap.Swapper) { s.Timeouts.Start = 2 * time.Second },
		want:    abswap.OutcomeDiscarded,
		serving: "v3",
	}, {
		name:    "v5, gets sick",
		release: release{Version: "v5", Behaviour: getsSick, SickAfter: time.Second},
		adjust:  func(s *abswap.Swapper) { s.Soak = time.Minute }, // it will not last so long
		want:    abswap.OutcomeRolledBack,
		serving: "v3",
	}, {
		name:      "v6, the cure",
		release:   release{Version: "v6", Behaviour: healthy},
		want:      abswap.OutcomeSucceeded,
		serving:   "v6",
		transfers: []transfer{{kindDownload, 10.5}},
	}, {
		name:    "back to v3",
		want:    abswap.OutcomeSucceeded,
		serving: "v3",
	}}
}

// tell plays the acts, one after the other, and judges. An act that went wrong is the last one.
func (s *story) tell(ctx context.Context) (verdict, error) {
	ledgers := filepath.Join(s.dir, "ledgers")
	if err := os.Mkdir(ledgers, 0o755); err != nil {
		return verdict{}, err
	}
	s.load = newLoad(s.addr, s.epoch, s.o)
	s.say.line("", "the front door is http://%s; the load: %d requests/s and %d lasting clients for %.0f s, seed %d", s.addr, s.o.rate,
		websockets+eventStreams, s.o.seconds, s.o.seed)
	defer s.say.watch(s.status)()

	acts := s.o.script
	if acts == nil {
		acts = script()
	}
	if s.play(ctx, acts[0], ledgers) {
		stop := s.load.begin(ctx)
		s.load.transfer(kindUpload, 10)
		s.load.transfer(kindDownload, 10.5)
		pause(ctx, s.o.scaled(1.5))
		right := true
		for i := 1; right && i < len(acts); i++ {
			right = s.play(ctx, acts[i], ledgers)
		}
		if right {
			pause(ctx, s.o.scaled(usual)-s.load.lasted())
		}
		s.say.line("", "the load ends")
		stop()
		if rate := s.load.achieved(); rate < 0.9*float64(s.o.rate) {
			s.say.line("", "this machine managed only %.0f requests/s, not %d: the figures are those of the lower rate", rate, s.o.rate)
		}
	}
	if ctx.Err() != nil {
		return verdict{}, nil // nothing was broken, nothing was proven
	}
	got, err := readLedgers(ledgers)
	return judge(s.acts, s.moves.list(), s.load.records.list(), got), err
}

// play plays one act and tells whether it went as it should.
func (s *story) play(ctx context.Context, a act, ledgers string) bool {
	d := deployment{name: a.name, want: a.want, serving: a.serving, began: s.load.now(), busy: len(s.acts) > 0}
	if a.want == abswap.OutcomeDiscarded {
		d.unseen, d.busy = a.release.Version, false
	}
	s.say.line("", "%s", a.name)
	s.now, s.acts = a, append(s.acts, d)
	last := &s.acts[len(s.acts)-1]

	swapper := s.swapper()
	if a.adjust != nil {
		a.adjust(swapper)
	}
	report, err := s.deploy(ctx, swapper, a, ledgers)
	last.report = report
	if err != nil && report.Err == "" {
		last.report.Err = err.Error()
	}
	if last.answered, err = s.whoServes(ctx); err != nil {
		last.answered = err.Error()
	}
	return report.Outcome == a.want && last.answered == a.serving && ctx.Err() == nil
}

// deploy is what a deploy tool does: one call.
func (s *story) deploy(ctx context.Context, swapper *abswap.Swapper, a act, ledgers string) (abswap.Report, error) {
	if a.release.Version == "" {
		return swapper.Swap(ctx, s.kept())
	}
	a.release.Ledger = ledgers
	built, err := a.release.build(filepath.Join(s.dir, "releases"))
	if err != nil {
		return abswap.Report{}, err
	}
	return swapper.Deploy(ctx, built)
}

// kept is the slot that the last deploy kept warm.
func (s *story) kept() string {
	for i := len(s.acts) - 1; i >= 0; i-- {
		if r := s.acts[i].report.Retained; len(r) > 0 {
			return r[0]
		}
	}
	return ""
}

// event listens to the Swapper, which calls it on the goroutine that plays.
func (s *story) event(e abswap.Event) {
	s.say.event(e)
	last := &s.acts[len(s.acts)-1]
	switch {
	case e.Kind != abswap.EventPhase:
	case e.Phase == abswap.PhaseShifting && e.Round == 0:
		last.atSwitch = s.load.records.tally().long
		if last.busy {
			s.say.line("    ", "%d uploads, downloads, websockets and event streams are under way", last.atSwitch)
		}
	case e.Phase == abswap.PhaseSoaking && e.Percent == 100:
		for _, t := range s.now.transfers {
			s.load.transfer(t.kind, t.seconds)
		}
	}
}

// status is the live line.
func (s *story) status() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var b strings.Builder
	for _, slot := range s.slots {
		if l, err := s.door.InFlight(ctx, slot); err == nil {
			fmt.Fprintf(&b, "%s %d  ", slot.Name(), l.Total())
		}
	}
	t := s.load.records.tally()
	fmt.Fprintf(&b, "in flight, %s done, %s wrong", thousands(t.done), thousands(t.bad))
	return b.String()
}
