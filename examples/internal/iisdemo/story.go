package iisdemo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
)

// move is one deploy, or one swap.
type move struct {
	name    string
	from    string // release that served before
	to      string // release that is to serve
	began   time.Time
	shifted time.Time // Activate had returned; zero: it never did
	report  abswap.Report
	drained time.Duration
	seen    *iis.Switched // what probes saw of the switch; nil: nobody has told
	upload  *upload
}

// Door is where clients come in.
type Door struct {
	Address string // host:port
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// Begin begins the load. losses are the promises that the strategy does not make on this machine: what is lost by them is told, and does not
// count as broken.
func (d *Demo) Begin(ctx context.Context, at Door, losses []iis.Loss) error {
	d.judge = newJudge(losses)
	d.load = newLoad(d.Host, at.Address, at.Dial, d.Rate, d.emu != nil)
	serving, _, err := d.load.ask(true)
	if err != nil {
		return fmt.Errorf("who serves at %s: %w", at.Address, err)
	}
	d.judge.allow(serving)
	d.Say("%s serves; from now on %d requests come each second", serving, d.Rate)
	for _, l := range losses {
		d.Say("known: %s is not kept: %s", l.Rule, l.Why)
	}
	return nil
}

// WhoServes asks the front door, as clients do, which release answers.
func (d *Demo) WhoServes(context.Context) (string, error) {
	release, _, err := d.load.ask(true)
	return release, err
}

// Deploy deploys a release, over a long upload.
func (d *Demo) Deploy(ctx context.Context, s *abswap.Swapper, r abswap.Release) error {
	return d.move(ctx, "deploy of "+r.ID, r.ID, d.Upload != "", func() (abswap.Report, error) { return s.Deploy(ctx, r) })
}

// Back sends the work back to the slot that had it before the last move, which was kept warm.
func (d *Demo) Back(ctx context.Context, s *abswap.Swapper) error {
	last := d.moves[len(d.moves)-1]
	if last.report.From == "" {
		return errors.New("there is nothing to go back to")
	}
	return d.move(ctx, "back to "+last.from, last.from, false, func() (abswap.Report, error) { return s.Swap(ctx, last.report.From) })
}

func (d *Demo) move(ctx context.Context, name, to string, withUpload bool, act func() (abswap.Report, error)) (err error) {
	m := &move{name: name, from: d.judge.serving(), to: to, began: time.Now()}
	d.Say("%s, in the place of %s", name, m.from)
	if withUpload {
		if m.upload, err = d.load.begin(ctx, d.Upload, m.from); err != nil {
			return err
		}
		d.Say("  an upload has begun in %s", m.from)
	}
	d.moves = append(d.moves, m)
	m.report, err = act()
	if m.upload != nil {
		m.upload.end(0)
	}
	for _, r := range m.report.Drains {
		if r.Drained {
			m.drained = r.Waited
		}
	}
	d.mu.Lock()
	if n := len(d.switches); n > 0 && !m.shifted.IsZero() {
		m.seen = &d.switches[n-1]
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if m.report.Outcome != abswap.OutcomeSucceeded {
		return fmt.Errorf("%s: %s %s", name, m.report.Outcome, m.report.Err)
	}
	return nil
}

// Switched is App.OnSwitch: it notes what probes saw of a switch.
func (d *Demo) Switched(s iis.Switched) {
	d.mu.Lock()
	d.switches = append(d.switches, s)
	d.mu.Unlock()
	gap := "no probe failed"
	if s.Failed > 0 {
		gap = fmt.Sprintf("a gap of %s, in which %d probes failed", s.Gap.Round(time.Millisecond), s.Failed)
	}
	d.Say("    in force after %s, with %d commits; %s; the slowest answer took %s", s.Took.Round(time.Millisecond), s.Commits, gap,
		s.Longest.Round(time.Millisecond))
}

// Event is Swapper.OnEvent: it prints what happens, and tells the judge who may answer from when on.
func (d *Demo) Event(e abswap.Event) {
	m := d.moves[len(d.moves)-1]
	switch {
	case e.Kind == abswap.EventWarning:
		if !d.warned[e.Message] {
			d.warned[e.Message] = true
			d.Say("  warning: %s", e.Message)
		}
	case e.Kind == abswap.EventDone && e.Err != nil:
		d.Say("  %s: %s: %v", e.Phase, e.Result, e.Err)
	case e.Kind == abswap.EventDone && e.Phase == abswap.PhaseShifting:
		m.shifted = e.Time
		d.judge.allow(m.to)
	case e.Kind == abswap.EventDone && e.Phase == abswap.PhaseReverting:
		d.judge.allow(m.from)
	case e.Kind == abswap.EventDone && e.Phase == abswap.PhaseDraining && e.Slot != "":
		d.Say("  slot %s has finished all it had, after %s", e.Slot, e.Elapsed.Round(time.Millisecond))
	case e.Kind == abswap.EventPhase:
		d.phase(e, m)
	}
}

// phase is the beginning of one.
func (d *Demo) phase(e abswap.Event, m *move) {
	switch e.Phase {
	case abswap.PhaseInstalling:
		d.Say("  %s is put into slot %s", e.Release, e.To)
	case abswap.PhaseStarting:
		d.Say("  slot %s is started and probed", e.To)
	case abswap.PhaseShifting:
		d.judge.allow(m.from, m.to)
		d.Say("  all new work to slot %s", e.To)
	case abswap.PhaseReverting:
		d.judge.allow(m.from, m.to)
		d.Say("  back to slot %s", e.From)
	case abswap.PhaseDraining:
		d.Say("  slot %s finishes what it has", e.From)
		if m.upload != nil {
			d.load.all.Go(func() { m.upload.end(d.Linger) })
		}
	}
}

// End ends the load, and prints what the clients felt. err is what kept the story from its end. The exit code is 0 if every promise was kept,
// else 1.
func (d *Demo) End(err error) int {
	if d.Stop(); d.load != nil {
		d.tell()
	}
	if err != nil {
		d.Say("it did not go well: %v", err)
		return 1
	}
	if len(d.judge.broken) > 0 {
		for _, b := range d.judge.broken[:min(len(d.judge.broken), 20)] {
			d.Say("broken: %s", b)
		}
		return 1
	}
	d.Say("every promise was kept")
	return 0
}

// tell judges the requests, and prints the table.
func (d *Demo) tell() {
	rows := d.judge.judge(d.load.recorded(), d.moves)
	out := d.out.out
	fmt.Fprintf(out, "\n%-16s %-15s %9s %9s %9s %9s %6s %6s %6s\n", "move", "outcome", "gap", "slowest", "drained", "requests", "lost", "late", "cut")
	var gaps []time.Duration
	for i, m := range d.moves {
		gap, outcome := "-", string(m.report.Outcome)
		if m.seen != nil {
			gap = m.seen.Gap.Round(time.Millisecond).String()
			gaps = append(gaps, m.seen.Gap)
		}
		if outcome == "" {
			outcome = "not ended"
		}
		r := rows[i]
		fmt.Fprintf(out, "%-16s %-15s %9s %9s %9s %9d %6d %6d %6d\n", m.name, outcome, gap, r.slowest.Round(time.Millisecond),
			m.drained.Round(time.Millisecond), r.requests, r.lost, r.late, r.cut)
	}
	fmt.Fprintln(out)
	if len(gaps) > 0 && d.judge.losses["S2"] {
		slices.Sort(gaps)
		d.Say("gap of %d switches: median %s, maximum %s", len(gaps), gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond))
	}
	all := d.judge.sum
	d.Say("%d requests and %d uploads: %d lost, %d late, %d cut", all.requests-all.uploads, all.uploads, all.lost, all.late, all.cut)
	if d.judge.excused > 0 {
		d.Say("%d of these are of the kinds that were known before", d.judge.excused)
	}
}
