package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/retry"
)

// settle waits until all that had entered the slot named before the hold has left it again, or is known to have been begun behind the inner
// front door: it has part of its answer, or has left HTTP, or is older than Settle. In the end all of it is as old as that.
func (h *Holding) settle(ctx context.Context, name string, seen *HeldSwitch) error {
	if name == "" || h.cfg.Settle < 0 {
		return nil
	}
	began := time.Now()
	defer func() { seen.Settled = time.Since(began) }()
	pauses := retry.Policy{First: 2 * time.Millisecond, Max: 50 * time.Millisecond}.Pauses()
	g := h.named(name)
	for {
		over := time.Since(began) >= h.cfg.Settle // asked before the counts, so that these belong to all of it
		// The count goes first: what entered and is not in the list yet is in the count, and keeps the two apart.
		l, err := h.cfg.Front.InFlight(ctx, g)
		if err != nil {
			return err
		}
		if l.Total() == 0 {
			seen.Begun, seen.Unproven = 0, 0
			return nil
		}
		all, err := h.cfg.Front.List(ctx, g, math.MaxInt32)
		if err != nil {
			return err
		}
		begun, quiet := 0, 0
		for _, w := range all {
			switch {
			case w.Kind != "request" || w.Out > 0:
				begun++
			case w.Age >= h.cfg.Settle:
				quiet++
			}
		}
		if begun+quiet >= l.Total() || over {
			seen.Begun, seen.Unproven = l.Total(), max(l.Total()-begun, 0)
			return nil
		}
		if err := retry.Sleep(ctx, min(pauses(), max(h.cfg.Settle-time.Since(began), time.Millisecond))); err != nil {
			return err
		}
	}
}

// blame says which work may be counted for the wrong slot.
type blame struct {
	wrong  bool      // what comes now may be
	before time.Time // what came before may be; zero: nothing
}

// slack is how much later than its beginning a request may show in a list.
const slack = time.Second

// mislaid notes that the front may have counted for the wrong slot, and, if still is set, that it does so now.
func (h *Holding) mislaid(still bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blame.wrong = h.blame.wrong || still
	h.blame.before = time.Now()
}

// found notes that from now on the front counts for the right slot.
func (h *Holding) found() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blame.wrong {
		h.blame = blame{before: time.Now()}
	}
}

func (h *Holding) wrong() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blame.wrong
}

// compare notes it if the front counts for another slot than the one that is active.
func (h *Holding) compare(ctx context.Context) error {
	name, err := h.cfg.Inner.Active(ctx)
	if err != nil {
		if errors.Is(err, abswap.ErrNoActive) || errors.Is(err, abswap.ErrMixed) {
			h.mislaid(true)
			return nil
		}
		return fmt.Errorf("who is active: %w", err)
	}
	now, err := h.cfg.Front.Active(ctx)
	if errors.Is(err, abswap.ErrNoActive) {
		return nil // nothing comes through it
	}
	if err == nil && now != name {
		h.mislaid(true)
	}
	return err
}

// InFlight counts what s carries: what the proxy has given to it, and what HoldingConfig.Drainer sees; the larger counts, with the weaker
// evidence. While it is not known for whom the proxy counts, the evidence is unknown.
func (h *Holding) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, err
	}
	if err := h.has(s); err != nil {
		return abswap.Load{}, err
	}
	return h.counts.InFlight(ctx, s)
}

// frontCounts is what the front counts.
type frontCounts struct{ h *Holding }

// InFlight counts what the front has given to s, and what it may have given to s and counted for another slot.
func (c frontCounts) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	h := c.h
	h.mu.Lock()
	was := h.blame
	h.mu.Unlock()
	l, err := h.cfg.Front.InFlight(ctx, h.gate(s))
	if err != nil {
		return l, err
	}
	if l.Total() == 0 && !was.wrong && !h.moving.Load() { // a zero is relied on
		if err := h.turn.Take(ctx); err != nil {
			return l, err
		}
		err := h.compare(ctx)
		h.turn.Give()
		if err != nil {
			return l, err
		}
		was.wrong = h.wrong()
	}
	switch {
	case was.wrong:
		l.Evidence, l.Source = abswap.EvidenceUnknown, l.Source+", which may be another slot's"
		return l, nil
	case was.before.IsZero():
		return l, nil
	case time.Since(was.before) < slack:
		l.Evidence, l.Source = abswap.EvidenceUnknown, l.Source+", of which some may be another slot's"
		return l, nil
	}
	return c.others(ctx, s, l, was)
}

// others adds to l what other slots carry since before it was known whose it is.
func (c frontCounts) others(ctx context.Context, s abswap.Slot, l abswap.Load, was blame) (abswap.Load, error) {
	all, full, err := c.old(ctx, was)
	if err != nil {
		return l, err
	}
	none := true
	for name, old := range all {
		none = none && old.Total() == 0
		if name != s.Name() {
			l.Requests += old.Requests
			l.Upgraded += old.Upgraded
		}
	}
	if !full {
		l.Evidence = abswap.EvidenceUnknown
	}
	if none && full {
		c.h.mu.Lock()
		if c.h.blame == was {
			c.h.blame = blame{}
		}
		c.h.mu.Unlock()
	}
	return l, nil
}

// old counts by slot what began before was.before; full is false if there is more than the front lists.
func (c frontCounts) old(ctx context.Context, was blame) (all map[string]abswap.Load, full bool, err error) {
	all, full = map[string]abswap.Load{}, true
	for name := range c.h.slots {
		g := c.h.named(name)
		since := time.Since(was.before) // before ages are told: an answer that is long on its way makes nothing younger
		count, err := c.h.cfg.Front.InFlight(ctx, g)
		if err != nil {
			return nil, false, err
		}
		list, err := c.h.cfg.Front.List(ctx, g, math.MaxInt32)
		if err != nil {
			return nil, false, err
		}
		var l abswap.Load
		young := false
		for _, w := range list {
			switch {
			case w.Age < since-slack:
				young = true
			case w.Kind == "request":
				l.Requests++
			default:
				l.Upgraded++
			}
		}
		// Oldest first: once a young one is in the list no older one is left out.
		full = full && (young || len(list) >= count.Total() || len(list) == 0)
		all[name] = l
	}
	return all, full, nil
}

// List returns at most limit of the pieces of work that the proxy has given to s, oldest first.
func (h *Holding) List(ctx context.Context, s abswap.Slot, limit int) ([]abswap.Work, error) {
	if err := h.has(s); err != nil {
		return nil, err
	}
	return h.cfg.Front.List(ctx, h.gate(s), limit)
}

// Force ends what the proxy has given to s, as the proxy does. What came to s past the proxy it does not reach.
func (h *Holding) Force(ctx context.Context, s abswap.Slot, how abswap.Force) error {
	if err := h.has(s); err != nil {
		return err
	}
	return h.cfg.Front.Force(ctx, h.gate(s), how)
}

// End ends pieces of work that the proxy has given to s, as the proxy does; errors.ErrUnsupported where HoldingConfig.Front cannot.
func (h *Holding) End(ctx context.Context, s abswap.Slot, how abswap.Force, ids ...uint64) error {
	if err := h.has(s); err != nil {
		return err
	}
	d, ok := abswap.As[abswap.ClassDrainer](h.cfg.Front)
	if !ok {
		return fmt.Errorf("proxy: holding: %T cannot end one piece of work: %w", h.cfg.Front, errors.ErrUnsupported)
	}
	return d.End(ctx, h.gate(s), how, ids...)
}
