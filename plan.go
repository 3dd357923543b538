package abswap

import (
	"context"
	"fmt"
	"strings"
)

// Plan tells what a Deploy would do now.
type Plan struct {
	Release  string        `json:"release,omitempty"`
	From     string        `json:"from,omitempty"` // "": a first deploy
	To       string        `json:"to"`
	Steps    []PlannedStep `json:"steps"`
	Warnings []string      `json:"warnings,omitempty"`
}

// PlannedStep is one phase of a Plan.
type PlannedStep struct {
	Phase   Phase    `json:"phase"`
	Round   int      `json:"round,omitempty"`
	Effects []string `json:"effects,omitempty"` // calls that change something: "install v2 into green"; empty: it looks, waits or asks
}

// String prints one line a phase.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%-15s %s\n", s.Phase, strings.Join(s.Effects, ", "))
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// Plan tells what Deploy(ctx, rel) would do now, and changes nothing: it observes the world once and runs the engine against a model of it, in
// which every release is fit and all work ends. Its errors are those with which Deploy would refuse.
func (s *Swapper) Plan(ctx context.Context, rel Release) (Plan, error) {
	if err := rel.Check(); err != nil {
		return Plan{}, fmt.Errorf("%w: %w", ErrPermanent, err)
	}
	return s.planFor(ctx, SwapBegin{Release: rel, Install: true})
}

// PlanSwap is Plan for Swap(ctx, to).
func (s *Swapper) PlanSwap(ctx context.Context, to string) (Plan, error) {
	return s.planFor(ctx, SwapBegin{To: to})
}

func (s *Swapper) planFor(ctx context.Context, b SwapBegin) (Plan, error) {
	warnings, err := splitWarnings(s.Check(ctx))
	if err != nil {
		return Plan{}, err
	}
	if st, err := s.newest(ctx); err == nil && !st.phase.final() {
		warnings = append(warnings, fmt.Sprintf("swap %s stands in phase %s and is brought to its end, or taken over, first", st.id, st.phase))
	}
	if b, err = s.choose(ctx, b); err != nil {
		return Plan{}, err
	}
	p := Plan{Release: b.Release.ID, From: b.From, To: b.To, Warnings: warnings}
	if b.Weights[b.To] == 100 {
		return p, nil
	}
	m, slots, err := s.modelOf(ctx)
	if err != nil {
		return Plan{}, err
	}
	m.around = func(c modelCall) error {
		if c.effect == nil {
			return nil
		}
		c.effect()
		last := &p.Steps[len(p.Steps)-1]
		last.Effects = append(last.Effects, effectText(c, b.Release))
		return nil
	}
	dry := &Swapper{
		Switcher: m, Drainer: m, Slots: slots, Journal: &MemoryJournal{},
		Steps: s.Steps, Soak: -1, Exclusive: s.Exclusive, Hold: s.Hold, Retain: s.Retain, Occupied: s.Occupied, plan: true,
		OnEvent: func(e Event) {
			if e.Kind == EventPhase {
				p.Steps = append(p.Steps, PlannedStep{Phase: e.Phase, Round: e.Round})
			}
		},
	}
	b.Steps, b.Exclusive = s.rounds(b), s.Exclusive
	hold, err := dry.Journal.Lock(ctx, b.Owner)
	if err != nil {
		return Plan{}, err
	}
	defer hold.Unlock()
	if _, err := dry.start(ctx, hold, b, nil, nil); err != nil {
		return p, fmt.Errorf("the plan does not work out: %w", err)
	}
	return p, nil
}

func effectText(c modelCall, rel Release) string {
	switch c.op {
	case "activate":
		return fmt.Sprintf("send all new work to %s", c.slot)
	case "weigh":
		return "send new work to " + weightsText(c.to)
	case "install":
		return fmt.Sprintf("install %s into %s", rel.ID, c.slot)
	case "hold":
		return "hold new requests"
	case "seal":
		return fmt.Sprintf("seal %s, so that nothing leads to it", c.slot)
	}
	return c.op + " " + c.slot
}
