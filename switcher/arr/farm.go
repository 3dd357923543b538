package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// view is the farm at one moment, as ARR has it.
type view struct {
	answer
	slotOf map[string]string // by lower-case address
}

// look reads the farm once.
func (s *Switcher) look(ctx context.Context) (*view, error) {
	a, err := s.calls.call(ctx, request{Call: "read", Pool: s.cfg.Pool})
	if err != nil {
		return nil, err
	}
	v := &view{a, s.slotOf}
	var errs []error
	for _, x := range a.Servers {
		if _, err := x.stateOf(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range s.cfg.slotNames() {
		for _, address := range s.cfg.Slots[name] {
			if v.member(address) == nil {
				errs = append(errs, fmt.Errorf("farm %q has no member %q of slot %q: %w", s.cfg.Farm, address, name, abswap.ErrPermanent))
			}
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, err
	}
	s.marks.note(v)
	return v, nil
}

// member returns the one of that address, nil if there is none.
func (v *view) member(address string) *server {
	for i := range v.Servers {
		if strings.EqualFold(v.Servers[i].Address, address) {
			return &v.Servers[i]
		}
	}
	return nil
}

// is reports the state of a member that look has read.
func (x server) is() state {
	st, err := x.stateOf()
	if err != nil {
		return stateOpen // look has refused it
	}
	return st
}

// takes reports whether new clients come to the member.
func (x server) takes() bool { return x.Enabled && x.Healthy && x.is() == stateOpen }

// strangers are members of no slot that take requests.
func (v *view) strangers() []string {
	var all []string
	for _, x := range v.Servers {
		if _, own := v.slotOf[strings.ToLower(x.Address)]; !own && x.takes() {
			all = append(all, x.Address)
		}
	}
	return all
}

// parts are the slots' shares of new work in per cents. Each that has any has at least 1.
func (v *view) parts(names []string) map[string]int {
	sum := map[string]int64{}
	var total int64
	for _, x := range v.Servers {
		if name, own := v.slotOf[strings.ToLower(x.Address)]; own && x.takes() {
			sum[name] += x.Weight
			total += x.Weight
		}
	}
	all := map[string]int{}
	if total == 0 {
		return all
	}
	left, largest := 100, ""
	for _, name := range names {
		if sum[name] == 0 {
			continue
		}
		all[name] = max(1, int((sum[name]*200+total)/(2*total)))
		left -= all[name]
		if largest == "" || sum[name] > sum[largest] {
			largest = name
		}
	}
	all[largest] += left // what rounding has taken or given
	return all
}

// pids are ARR's worker processes that are known to have taken over, those that end too; none if it cannot be told which one serves.
func (v *view) pids() []int {
	if v.serving() == 0 {
		return nil
	}
	var all []int
	for _, w := range v.Workers {
		if !starting(w) {
			all = append(all, w.PID)
		}
	}
	return all
}

func starting(w worker) bool { return strings.EqualFold(w.State, "Starting") }

// known reports whether all worker processes that have taken over are among pids.
func (v *view) known(pids []int) bool {
	return !slices.ContainsFunc(v.Workers, func(w worker) bool { return !starting(w) && !slices.Contains(pids, w.PID) })
}

// serving is the worker process whose counters were read; 0: it cannot be told, since several could be.
func (v *view) serving() int {
	pid := 0
	for _, w := range v.Workers {
		if !strings.EqualFold(w.State, "Running") {
			continue
		}
		if pid != 0 {
			return 0
		}
		pid = w.PID
	}
	return pid
}

// errNoWorker says why no state can be set.
var errNoWorker = errors.New("ARR's application pool has no worker process, so that there is nothing to hold a state: set its startMode to AlwaysRunning, " +
	"or send a request first")
