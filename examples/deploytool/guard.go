package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// guardEvery is how often the guard looks at the slots.
const guardEvery = 250 * time.Millisecond

// guard is the supervisor of the serve process. It starts the live slot at boot and again when it has died, and a slot that is kept warm
// too; never another one: what else is in a slot is a deploy's business.
type guard struct {
	cfg     *config
	log     *slog.Logger
	door    *proxy.Switcher
	orders  *sync.RWMutex // held for writing while the guard gives the door an order
	journal abswap.Journal
	watched []*watched

	last *supervisor // as written
}

// watched is one slot, as the guard knows it.
type watched struct {
	*process.Slot
	supervision
	seen  bool // it ran when it was looked at last
	tries int  // starts since it ran for longer than the longest backoff
	moved bool // it may listen elsewhere than where the door forwards to
	stray bool // the guard started it when it was just ceasing to be live
}

func newGuard(c *config, log *slog.Logger, door *proxy.Switcher, orders *sync.RWMutex, slots []*process.Slot, journal abswap.Journal) *guard {
	return &guard{cfg: c, log: log, door: door, orders: orders, journal: journal, watched: watchedOf(slots)}
}

func watchedOf(slots []*process.Slot) (all []*watched) {
	for _, s := range slots {
		all = append(all, &watched{Slot: s, supervision: supervision{Slot: s.Name(), State: superNone}, moved: true})
	}
	return all
}

// run looks at the slots until ctx ends.
func (g *guard) run(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	begun := time.Now()
	for {
		for _, w := range g.watched {
			if err := g.look(ctx, w); err != nil && ctx.Err() == nil {
				if w.Err != err.Error() {
					g.log.Error("supervisor", "slot", w.Slot.Name(), "err", err)
				}
				w.Err = err.Error()
			}
		}
		g.tell(begun)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell writes the file for status if there is something new in it.
func (g *guard) tell(begun time.Time) {
	now := &supervisor{PID: os.Getpid(), Since: begun.Round(0)}
	for _, w := range g.watched {
		s := w.supervision
		s.Deaths = slices.Clone(s.Deaths)
		now.Slots = append(now.Slots, s)
	}
	if g.last != nil && reflect.DeepEqual(now, g.last) {
		return
	}
	if err := now.write(g.cfg.superFile()); err != nil {
		g.log.Error("supervisor", "err", err)
		return
	}
	g.last = now
}

// look does what is to be done about one slot.
func (g *guard) look(ctx context.Context, w *watched) error {
	st, err := w.Inspect(ctx)
	if err != nil {
		return err
	}
	part, err := g.part(ctx, w.Slot.Name())
	if err != nil {
		return err
	}
	died := w.seen && !st.Running
	w.seen = st.Running
	if st.Running && part > 0 {
		if time.Since(st.Started) > time.Duration(g.cfg.Supervise.BackoffMax) {
			w.tries = 0
		}
		w.State, w.Next, w.Err, w.stray = superRuns, time.Time{}, "", false
		return g.follow(ctx, w)
	}
	duty, err := g.duty(ctx, w.Slot.Name(), part)
	if err != nil {
		return err
	}
	switch {
	case duty == dutyNone:
		w.State, w.Next, w.tries, w.Err, w.moved = superNone, time.Time{}, 0, "", false
		if st.Running && w.stray {
			return g.takeBack(ctx, w)
		}
		return nil
	case st.Running:
		w.State, w.Next, w.Err = superRuns, time.Time{}, ""
		return nil
	}
	if died || w.State != superWaits && w.State != superLimited {
		g.schedule(w, died)
		if err := w.Ready(ctx); err != nil {
			w.Err = err.Error() // with its exit code and the last lines of its log
		}
	}
	if time.Now().Before(w.Next) {
		return nil
	}
	return g.start(ctx, w, duty)
}

// schedule books a death and says when the slot is started again: the first time at once, then later and later.
func (g *guard) schedule(w *watched, died bool) {
	now, s := time.Now().Round(0), g.cfg.Supervise
	w.State, w.Next = superWaits, now
	if !died { // it did not run when the guard came
		return
	}
	w.Deaths = append(slices.DeleteFunc(w.Deaths, func(t time.Time) bool { return now.Sub(t) > time.Duration(s.Within) }), now)
	if len(w.Deaths) > s.Deaths {
		w.State, w.Next = superLimited, now.Add(time.Duration(s.Pause))
		g.log.Error("the slot dies again and again: rapid-fail limit", "slot", w.Slot.Name(), "deaths", len(w.Deaths), "next", w.Next, "log", w.Log())
		return
	}
	if w.tries > 0 {
		w.Next = now.Add(min(time.Duration(s.BackoffMax), time.Duration(s.BackoffFirst)<<min(w.tries-1, 20)))
	}
	g.log.Warn("the slot has died", "slot", w.Slot.Name(), "next", w.Next, "log", w.Log())
}

// start starts the slot again.
func (g *guard) start(ctx context.Context, w *watched, duty duty) error {
	if duty == dutyWarm { // a deploy may be about to take that slot: not both at once
		hold, err := g.journal.Lock(ctx, g.owner("restart of slot "+w.Slot.Name()))
		if errors.Is(err, abswap.ErrBusy) {
			return nil
		}
		if err != nil {
			return err
		}
		defer hold.Unlock()
		if now, err := g.retained(ctx, w.Slot.Name()); err != nil || !now {
			return err
		}
	}
	w.tries++
	w.Restarts++
	g.log.Info("the slot is started", "slot", w.Slot.Name())
	if err := w.Start(ctx); err != nil {
		g.schedule(w, true)
		return fmt.Errorf("start: %w", err)
	}
	w.seen, w.State, w.Next, w.Err = true, superRuns, time.Time{}, ""
	if duty == dutyWarm {
		return nil // whoever makes it live asks it where it listens
	}
	w.moved = true
	return g.follow(ctx, w)
}

// follow makes the door forward to where the slot listens now: an application that was started again may have another port. The parts stay
// as they are.
func (g *guard) follow(ctx context.Context, w *watched) error {
	if !w.moved {
		return nil
	}
	g.orders.Lock()
	defer g.orders.Unlock()
	parts, err := g.door.Weights(ctx)
	if err != nil {
		return err
	}
	if parts[w.Slot.Name()] == 0 {
		w.stray = w.Restarts > 0
		return nil
	}
	var all []abswap.Weight
	for _, x := range g.watched {
		if p := parts[x.Slot.Name()]; p > 0 {
			all = append(all, abswap.Weight{Slot: x.Slot, Part: p})
		}
	}
	if err := g.door.SetWeights(ctx, all...); err != nil {
		return err
	}
	w.moved = false
	return nil
}

// takeBack stops a slot that the guard started when it had just ceased to be live. It does so as the engine does: with the journal held, so
// that no deploy is under way; sealed, so that nothing can come to it; and only if nothing is in it.
func (g *guard) takeBack(ctx context.Context, w *watched) error {
	hold, err := g.journal.Lock(ctx, g.owner("stop of slot "+w.Slot.Name()))
	if errors.Is(err, abswap.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer hold.Unlock()
	g.orders.Lock()
	defer g.orders.Unlock()
	part, err := g.part(ctx, w.Slot.Name())
	if err != nil {
		return err
	}
	if d, err := g.duty(ctx, w.Slot.Name(), part); err != nil || part > 0 || d != dutyNone {
		w.stray = false
		return err
	}
	if err := g.door.Seal(ctx, w.Slot); err != nil {
		return err
	}
	if load, err := g.door.InFlight(ctx, w.Slot); err != nil || load.Total() > 0 {
		return err
	}
	w.stray = false
	return w.Stop(ctx)
}

func (g *guard) part(ctx context.Context, slot string) (int, error) {
	parts, err := g.door.Weights(ctx)
	return parts[slot], err
}

// duty says why a slot is supervised.
type duty int

const (
	dutyNone duty = iota
	dutyLive      // it has a part of the new work
	dutyWarm      // it is kept warm for a way back
)

// duty looks it up. A slot on probation, in a deploy that is running, is not supervised: starting it again would hide from that deploy that its
// release dies.
func (g *guard) duty(ctx context.Context, slot string, part int) (duty, error) {
	if part > 0 {
		rep, err := abswap.ReadReport(ctx, g.journal, "")
		if errors.Is(err, abswap.ErrNothingToDo) {
			return dutyLive, nil
		}
		if err != nil {
			return dutyLive, nil // whatever is wrong with the journal: the live slot has to run
		}
		_, held, err := g.journal.Owner(ctx)
		if err == nil && held && rep.To == slot && rep.Outcome == abswap.OutcomeNone && !inTail(rep.Phase) {
			return dutyNone, nil
		}
		return dutyLive, nil
	}
	warm, err := g.retained(ctx, slot)
	if err != nil || !warm {
		return dutyNone, err
	}
	return dutyWarm, nil
}

func inTail(p abswap.Phase) bool {
	return p == abswap.PhaseDraining || p == abswap.PhaseRetaining || p == abswap.PhaseStopping
}

// retained tells whether the newest swap has left the slot to be kept warm.
func (g *guard) retained(ctx context.Context, slot string) (bool, error) {
	rep, err := abswap.ReadReport(ctx, g.journal, "")
	if errors.Is(err, abswap.ErrNothingToDo) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.Contains(rep.Retained, slot), nil
}

func (g *guard) owner(what string) abswap.Owner {
	o := abswap.Owner{User: "unknown", Host: "unknown", PID: os.Getpid(), Since: time.Now().Round(0), Release: what}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		o.Host = h
	}
	return o
}

// stopAll ends all applications.
func (g *guard) stopAll() error {
	var errs []error
	for _, w := range g.watched {
		errs = append(errs, w.Stop(context.Background()))
	}
	return errors.Join(errs...)
}
