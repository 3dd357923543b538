package fake

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// Call is one call of a method that was made, in the order in which they began.
type Call struct {
	Method  string               // "Activate"
	Slot    string               // name of the slot it was about; "": none
	Weights map[string]int       // of SetWeights
	Rules   []abswap.PreviewRule // of Preview
	Hold    abswap.HoldOptions   // of Hold, as given
	Force   abswap.Force         // of Force and End
	IDs     []uint64             // of End
	Release string               // ID, of Install
	Time    time.Time            // when it began
	Ended   bool                 // it has returned
	Err     error                // what it returned; nil while it has not
}

// String returns the call as one would write it: "Activate(green)", "SetWeights(blue 95, green 5)".
func (c Call) String() string {
	var args []string
	if c.Slot != "" {
		args = append(args, c.Slot)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Weights)) {
		args = append(args, fmt.Sprintf("%s %d", name, c.Weights[name]))
	}
	if c.Release != "" {
		args = append(args, c.Release)
	}
	switch c.Force {
	case abswap.ForceHandOver:
		args = append(args, "hand over")
	case abswap.ForceCut:
		args = append(args, "cut")
	}
	for _, id := range c.IDs {
		args = append(args, fmt.Sprint(id))
	}
	return c.Method + "(" + strings.Join(args, ", ") + ")"
}

// record keeps calls.
type record struct {
	mu    sync.Mutex
	calls []*Call
}

// begin notes a call; done notes what it returned, and returns it.
func (r *record) begin(c Call) (done func(error) error) {
	c.Time = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, &c)
	return func(err error) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.Ended, c.Err = true, err
		return err
	}
}

// list returns the calls of the methods named; without names, of all.
func (r *record) list(methods []string) []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calls []Call
	for _, c := range r.calls {
		if len(methods) == 0 || slices.Contains(methods, c.Method) {
			calls = append(calls, *c)
		}
	}
	return calls
}

// Calls returns what was asked of s so far, in order: the calls of the methods named, or without names all. Moves that matter to most
// tests are Calls("Activate", "SetWeights", "Seal").
func (s *Switcher) Calls(methods ...string) []Call { return s.log.list(methods) }

// Calls returns what was asked of s so far, in order: the calls of the methods named, or without names all.
func (s *Slot) Calls(methods ...string) []Call { return s.log.list(methods) }
