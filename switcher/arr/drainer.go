package arr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
)

// InFlight counts what ARR has in work in the slot's members: its current requests, and its upgraded connections.
//
// The counters forget. A change of a member's health resets them, and a recycle of ARR's pool begins them anew while the old worker process still
// has requests. So what they may not know is counted too: with Config.Inside by that, which is asked each time and of which the larger number
// counts; without it, all requests in ARR's own pool that an old worker process has, or that began before the member's counters did. Those may
// be another slot's: such a count can be too high, and is never too low. It leaves out members that were seen closed and without work,
// and were not opened since.
//
// The evidence is approximate, always: a request that ARR has not yet given to a member is in no counter. It is unknown, with an error, if
// what the counters may not know cannot be found out.
func (s *Switcher) InFlight(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	members, err := s.find(slot)
	if err != nil {
		return abswap.Load{}, s.errorf("%w", err)
	}
	v, err := s.look(ctx)
	if err != nil {
		return abswap.Load{}, s.errorf("%w", err)
	}
	l := abswap.Load{Evidence: abswap.EvidenceApproximate, Source: "ARR counters"}
	closed := true
	for _, address := range members {
		x := v.member(address)
		l.Requests += int(max(0, x.Current))
		l.Upgraded += int(max(0, x.Sockets))
		l.Source += fmt.Sprintf(", %s: %d", x.Address, x.Current+x.Sockets)
		closed = closed && x.is() == stateClosed
	}
	if s.cfg.Inside != nil {
		return s.inside(ctx, slot, l)
	}
	hidden, err := s.hidden(ctx, v, members)
	if err != nil {
		l.Evidence = abswap.EvidenceUnknown
		return l, s.errorf("slot %q: what ARR's counters may have lost cannot be told: %w", slot.Name(), err)
	}
	if hidden > 0 {
		l.Requests += hidden
		l.Source += fmt.Sprintf(", older than the counters: %d", hidden)
	}
	if closed && l.Total() == 0 {
		for _, address := range members {
			s.marks.set(address)
		}
	}
	return l, nil
}

// inside joins a Load with what Config.Inside counts: of two numbers of the same work the larger one.
func (s *Switcher) inside(ctx context.Context, slot abswap.Slot, l abswap.Load) (abswap.Load, error) {
	in, err := s.cfg.Inside.InFlight(ctx, slot)
	if err != nil {
		return abswap.Load{Source: l.Source}, s.errorf("slot %q: inside its members: %w", slot.Name(), err)
	}
	if more := in.Requests + in.Upgraded - l.Total(); more > 0 {
		l.Requests += more
	}
	if in.Evidence == abswap.EvidenceUnknown {
		l.Evidence = abswap.EvidenceUnknown
	}
	l.Source += "; inside: " + in.Source
	return l, nil
}

// hidden is how many requests there are at most that the members have and their counters do not know.
func (s *Switcher) hidden(ctx context.Context, v *view, members []string) (int, error) {
	marked := true
	age := time.Duration(0) // of the youngest counters, at the time of the reading
	for i, address := range members {
		marked = marked && s.marks.has(address)
		if a := v.age(v.member(address)); i == 0 || a < age {
			age = a
		}
	}
	if marked {
		return 0, nil
	}
	serving := v.serving()
	if serving == 0 && len(v.Workers) > 0 {
		return 0, fmt.Errorf("%d worker processes of ARR's pool %q run at one time, and it cannot be told whose counters were read", len(v.Workers), s.cfg.Pool)
	}
	requests, err := s.client.Requests(ctx, appcmd.RequestFilter{Pool: s.cfg.Pool})
	if appcmd.ClassOf(err) == appcmd.NotImplemented {
		err = fmt.Errorf("the Windows feature Request Monitor is not installed, and Config.Inside is not set: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return 0, explain(err)
	}
	n := 0
	for _, r := range requests {
		if r.PID != serving || r.Time > age {
			n++
		}
	}
	return n, nil
}

// age is how long ago a member's counters began. Ticks of 32 bits come round after 49 days; then it is too short, which counts too much.
func (v *view) age(x *server) time.Duration {
	return time.Duration(uint32(v.Tick-x.Reset)) * time.Millisecond
}

// Force ends what is left in a slot that takes no new work: ForceHandOver sends clients with an affinity cookie to other slots, by GracefulStop;
// ForceCut ends what runs, by ForcefulStop.
func (s *Switcher) Force(ctx context.Context, slot abswap.Slot, how abswap.Force) error {
	members, err := s.find(slot)
	if err != nil {
		return s.errorf("force %w", err)
	}
	order := map[abswap.Force]string{abswap.ForceHandOver: "GracefulStop", abswap.ForceCut: "ForcefulStop"}[how]
	if order == "" {
		return s.errorf("force slot %q: %d is no way to do it: %w", slot.Name(), how, abswap.ErrPermanent)
	}
	if ctx.Err() != nil {
		return s.errorf("force slot %q: %w", slot.Name(), context.Cause(ctx))
	}
	done, err := s.enter(ctx)
	if err != nil {
		return s.errorf("force slot %q: %w", slot.Name(), err)
	}
	defer done()
	v, err := s.look(ctx)
	if err != nil {
		return s.errorf("force slot %q: %w", slot.Name(), err)
	}
	for _, address := range members {
		if v.member(address).takes() {
			return s.errorf("force slot %q: its member %q takes new work: activate another slot first: %w", slot.Name(), address, abswap.ErrPermanent)
		}
	}
	m := &move{Switcher: s}
	closing := map[string]state{}
	for _, address := range members {
		closing[strings.ToLower(address)] = stateClosed
	}
	if err := m.remember(closing, v); err != nil {
		return s.errorf("force slot %q: %w", slot.Name(), err)
	}
	for _, address := range members {
		if _, err := s.calls.call(ctx, request{Call: "setState", Server: address, State: order}); err != nil {
			return s.errorf("force slot %q: %w", slot.Name(), err)
		}
	}
	return nil
}

// Sessions is a Drainer that also waits for clients with the affinity cookie of a slot that Activate has left draining (Config.KeepSessions).
// ARR counts no sessions: as long as requests come to a draining member somebody has one. They are taken to be over when none has come for
// the idle time, as seen by one Sessions; a new one begins to watch anew. Set it as Swapper.Drainer, with DrainOptions.Sessions.
type Sessions struct {
	*Switcher
	idle time.Duration

	mu   sync.Mutex
	seen map[string]sighting // by address
}

// sighting is when the requests of a member were last seen to grow.
type sighting struct {
	total int64
	at    time.Time
}

var _ abswap.SessionDrainer = (*Sessions)(nil)

// NewSessions returns a Drainer that waits for sessions too. idle 0: 20m, the default of a farm's affinity.
func NewSessions(s *Switcher, idle time.Duration) *Sessions {
	if idle == 0 {
		idle = 20 * time.Minute
	}
	return &Sessions{Switcher: s, idle: idle, seen: map[string]sighting{}}
}

// Sessions tells 1 as long as clients may have an affinity cookie that leads to the slot, and 0 when no request was seen for the idle time, or
// when the slot is sealed. The evidence is approximate.
func (x *Sessions) Sessions(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	members, err := x.find(slot)
	if err != nil {
		return abswap.Load{}, x.errorf("%w", err)
	}
	v, err := x.look(ctx)
	if err != nil {
		return abswap.Load{}, x.errorf("%w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	l := abswap.Load{Evidence: abswap.EvidenceApproximate, Source: "requests to draining members"}
	now := time.Now()
	for _, address := range members {
		m := v.member(address)
		last, known := x.seen[m.Address]
		if !known || last.total != m.Total || m.Current+m.Sockets > 0 {
			last = sighting{m.Total, now}
			x.seen[m.Address] = last
		}
		if m.is() != stateClosed && now.Sub(last.at) < x.idle {
			l.Sessions = 1
		}
	}
	return l, nil
}
