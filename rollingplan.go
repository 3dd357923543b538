package abswap

import (
	"context"
	"fmt"
	"strings"
)

// RollPlan tells what a Rolling's Deploy would do now.
type RollPlan struct {
	Release  string          `json:"release"`
	Floor    int             `json:"floor"` // members that serve at every instant
	Turns    [][]PlannedTurn `json:"turns"` // those in one turn are out at the same time; the first turn is the canary's
	Skipped  []MemberBegin   `json:"skipped,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
}

// PlannedTurn is one member in a RollPlan.
type PlannedTurn struct {
	Member  string   `json:"member"`
	Before  string   `json:"before,omitempty"` // ID of the release that it has; "": it cannot tell
	Effects []string `json:"effects"`          // calls that change something, in order
}

// String prints one line a member.
func (p RollPlan) String() string {
	var b strings.Builder
	for i, turn := range p.Turns {
		for _, m := range turn {
			fmt.Fprintf(&b, "turn %d: %s: %s\n", i+1, m.Member, strings.Join(m.Effects, ", "))
		}
	}
	for _, m := range p.Skipped {
		fmt.Fprintf(&b, "skipped: %s: %s\n", m.Name, m.Skip)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// Plan tells what Deploy(ctx, rel) would do now if all goes well, and changes nothing. Its errors are those with which Deploy would refuse.
func (o *Rolling) Plan(ctx context.Context, rel Release) (RollPlan, error) {
	if err := rel.Check(); err != nil {
		return RollPlan{}, fmt.Errorf("%w: %w", ErrPermanent, err)
	}
	warnings, err := splitWarnings(o.Check(ctx))
	if err != nil {
		return RollPlan{}, err
	}
	earlier, err := readRoll(ctx, o.journal(), "")
	if err != nil {
		earlier = nil // there is none, or Check has said what is the matter with the journal
	}
	if earlier != nil && earlier.endedBy == "" {
		warnings = append(warnings, fmt.Sprintf("roll %s is unfinished: its members in work are brought to rest first", earlier.id))
	}
	begin, err := o.choose(ctx, rel, earlier)
	if err != nil {
		return RollPlan{}, err
	}
	st := &rollState{members: map[string]*memberState{}}
	if err := st.apply(Record{Kind: RecordBegin, Swap: "plan", Roll: &begin}); err != nil {
		return RollPlan{}, err
	}
	p := RollPlan{Release: rel.ID, Floor: begin.Floor, Warnings: warnings}
	for _, b := range begin.Members {
		if b.Skip != "" {
			p.Skipped = append(p.Skipped, b)
		}
	}
	for turn := st.next(false); len(turn) > 0; turn = st.next(false) {
		var all []PlannedTurn
		for _, m := range turn {
			slot, err := o.slot(m.Name)
			if err != nil {
				return p, err
			}
			all = append(all, PlannedTurn{Member: m.Name, Before: m.Release, Effects: effectsOn(slot, m.Out, rel)})
			m.phase = MemberUpdated
		}
		p.Turns = append(p.Turns, all)
	}
	return p, nil
}

// effectsOn lists what a roll calls on one member.
func effectsOn(slot Slot, out bool, rel Release) []string {
	var all []string
	if !out {
		all = append(all, "take out")
	}
	if _, can := ability[StoppingSlot](slot); can {
		all = append(all, "stop")
	}
	if _, can := ability[InstallingSlot](slot); can {
		all = append(all, "install "+rel.ID)
	}
	if _, can := ability[StartingSlot](slot); can {
		all = append(all, "start")
	}
	if _, can := ability[WarmingSlot](slot); can {
		all = append(all, "warm")
	}
	return append(all, "put in")
}
