package route_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// The cases of balancers: each passes here, and fails with the fault of the one in which it was found.

// enter is Enter, or one with a fault.
type enter func(*table, *entry, *gen) *gen

// picked lets n enter and leave, and counts where.
func picked(tab *table, in enter, n int) map[string]int {
	got := map[string]int{}
	for range n {
		var e entry
		if g := in(tab, &e, nil); g != nil {
			got[g.Key.Slot]++
		} else {
			got[""]++
		}
		e.Leave()
	}
	return got
}

// TestF1NeverSpins: all that take work are unhealthy, a healthy one drains: requests are answered, and nothing waits for them. With Traefik's
// fault the pick spins with the lock in its hands, so that nothing can ever end it.
func TestF1NeverSpins(t *testing.T) {
	for name, tc := range map[string]struct {
		in   enter
		ends bool
	}{"as it is": {(*table).Enter, true}, "fault": {(*table).EnterSpinning, false}} {
		t.Run(name, func(t *testing.T) {
			tab, blue, green := newTable()
			tab.Set(part{blue, 100})
			tab.Set(part{green, 100})
			tab.SetSick(green, true)
			var both sync.WaitGroup
			defer both.Wait()
			tab.Spinning(true)
			defer tab.Spinning(false)
			ended := make(chan map[string]int, 1)
			both.Go(func() { ended <- picked(tab, tc.in, 10) })
			if tc.ends {
				assert.Equal(t, map[string]int{"green": 10}, <-ended)
				assert.Equal(t, []part{{green, 100}}, tab.Parts())
				return
			}
			for tab.Spins() < 1000 {
				runtime.Gosched()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			cured := make(chan struct{})
			both.Go(func() { tab.SetSick(green, false); close(cured) })
			select {
			case <-ended:
				t.Error("answered")
			case <-cured:
				t.Error("the table can be changed")
			case <-ctx.Done():
			}
		})
	}
}

// TestF2NothingIsExactlyNothing: a slot with a part of 0 gets not one request. With oxy's fault a 0 becomes a 1.
func TestF2NothingIsExactlyNothing(t *testing.T) {
	for _, fault := range []bool{false, true} {
		tab, blue, green := newTable()
		set := tab.Set
		if fault {
			set = tab.SetAtLeastOne
		}
		set(part{blue, 100}, part{green, 0})
		got := picked(tab, (*table).Enter, 10_000)
		if fault {
			assert.NotZero(t, got["green"])
			continue
		}
		assert.Equal(t, map[string]int{"blue": 10_000}, got)
	}
}

// TestF3TheOthersKeepTheirRatio when one is taken out. With Caddy's fault, an index over all weights that is used in the list of the healthy,
// they do not.
func TestF3TheOthersKeepTheirRatio(t *testing.T) {
	for name, tc := range map[string]struct {
		in    enter
		fault bool
	}{"as it is": {(*table).Enter, false}, "fault": {(*table).EnterIndexed, true}} {
		t.Run(name, func(t *testing.T) {
			tab, blue, green := newTable()
			red := generation(tab, "red", "v3")
			tab.Set(part{red, 50}, part{blue, 40}, part{green, 10})
			tab.SetSick(red, true)
			got := picked(tab, tc.in, 1000)
			if tc.fault {
				assert.NotEqual(t, 800, got["blue"])
				return
			}
			assert.Equal(t, map[string]int{"blue": 800, "green": 200}, got)
			tab.SetSick(red, false)
			assert.Equal(t, map[string]int{"red": 500, "blue": 400, "green": 100}, picked(tab, tc.in, 1000))
		})
	}
}

// TestF4ADrainedSlotIsNeverChosen, however unhealthy all others are. With the fault of a panic policy, "if none is healthy, take all", it is.
func TestF4ADrainedSlotIsNeverChosen(t *testing.T) {
	for name, tc := range map[string]struct {
		in    enter
		fault bool
	}{"as it is": {(*table).Enter, false}, "fault": {(*table).EnterInPanic, true}} {
		t.Run(name, func(t *testing.T) {
			tab, blue, green := newTable()
			red := generation(tab, "red", "v3")
			tab.Set(part{blue, 100})
			tab.Set(part{green, 50}, part{red, 50})
			tab.SetSick(green, true)
			tab.SetSick(red, true)
			got := picked(tab, tc.in, 1000)
			if tc.fault {
				assert.NotZero(t, got["blue"])
				return
			}
			assert.Equal(t, map[string]int{"green": 500, "red": 500}, got)
			tab.Seal("green")
			assert.Equal(t, map[string]int{"red": 100}, picked(tab, tc.in, 100), "the last one is never taken out")
			tab.Set()
			tab.SetSick(red, false)
			assert.Equal(t, map[string]int{"": 10}, picked(tab, tc.in, 10), "health gives nobody work")
		})
	}
}

// TestE4TheLastOneIsNeverTakenOut, and what was given is told apart from what is in force.
func TestE4TheLastOneIsNeverTakenOut(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 90}, part{green, 10})
	tab.SetSick(blue, true)
	assert.Equal(t, []part{{green, 100}}, tab.Parts())
	assert.True(t, tab.Ejected(blue))
	assert.Equal(t, []part{{blue, 100}}, tab.Without("green"), "what Seal leaves is what was given")
	tab.Seal("green")
	assert.Equal(t, []part{{blue, 100}}, tab.Parts())
	assert.False(t, tab.Ejected(blue))
}

// TestPlaces: as many enter as there are places; who waits is told of one that becomes free, comes first, and keeps to what it picked.
func TestPlaces(t *testing.T) {
	tab := route.New[string]("blue", "green")
	told := 0
	tab.Limit(2, func() { told++ })
	blue, green := generation(tab, "blue", "v1"), generation(tab, "green", "v2")
	tab.Set(part{blue, 100})
	var e [5]entry
	assert.Same(t, blue, tab.Enter(&e[0], nil))
	assert.Same(t, blue, tab.Enter(&e[1], nil))
	assert.Nil(t, tab.Enter(&e[2], nil))
	assert.Same(t, blue, e[2].Full)
	assert.Equal(t, route.Count{Requests: 2}, tab.Count("blue"), "it is counted nowhere")
	assert.False(t, tab.Worth(&e[2]))
	blue.Await(1)
	e[0].Leave()
	assert.Equal(t, 1, told)
	assert.True(t, tab.Worth(&e[2]))
	assert.Nil(t, tab.Enter(&e[3], nil), "another one waits")
	e[2].Turn = true
	assert.Same(t, blue, tab.Enter(&e[2], nil))
	assert.Nil(t, e[2].Full)
	e[1].Upgrade()
	assert.Equal(t, 2, told, "an upgraded connection takes no place")
	e[1].Leave()
	assert.Equal(t, 2, told)
	tab.Set(part{green, 100})
	assert.Equal(t, 3, told, "what waits may pick anew")
	assert.True(t, tab.Worth(&e[3]))
	blue.Await(-1)
	assert.Same(t, green, tab.Enter(&e[3], nil))
	e[2].Leave()
	e[3].Leave()
	assert.Zero(t, tab.Count("blue").Total()+tab.Count("green").Total())
}
