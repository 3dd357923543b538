package route_test

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

func enterAll(t *table, n int) map[string]int {
	got := map[string]int{}
	for range n {
		var e entry
		got[t.Enter(&e, nil).Key.Slot]++
		e.Leave()
	}
	return got
}

func TestWeightsAreMetExactly(t *testing.T) {
	tab, blue, green := newTable()
	red := generation(tab, "red", "v0")
	for _, w := range [][3]int{{100, 0, 0}, {50, 50, 0}, {1, 99, 0}, {99, 1, 0}, {33, 33, 34}, {1, 1, 98}, {5, 95, 0}, {0, 0, 100}} {
		tab.Set(part{blue, w[0]}, part{green, w[1]}, part{red, w[2]})
		for round := range 3 {
			want := map[string]int{"blue": w[0], "green": w[1], "red": w[2]}
			maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
			assert.Equal(t, want, enterAll(tab, 100), "round %d", round)
		}
		enterAll(tab, 37) // any hundred in a row, wherever they begin
		got := enterAll(tab, 100)
		for i, name := range []string{"blue", "green", "red"} {
			assert.Equal(t, w[i], got[name], name)
		}
	}
}

func TestWeightsAreSpreadEvenly(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 20}, part{green, 80})
	for range 20 {
		assert.Equal(t, map[string]int{"blue": 1, "green": 4}, enterAll(tab, 5))
	}
}

func TestWeightsAreMetByManyAtOnce(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 7}, part{green, 93})
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			n := enterAll(tab, 500)
			mu.Lock()
			defer mu.Unlock()
			for k, v := range n {
				got[k] += v
			}
		})
	}
	all.Wait()
	assert.Equal(t, map[string]int{"blue": 700, "green": 9300}, got)
}

func TestSealKeepsTheRatioOfTheOthers(t *testing.T) {
	tab, blue, green := newTable()
	red := generation(tab, "red", "v0")
	for _, tc := range []struct{ blue, green, red, wantGreen, wantRed int }{
		{50, 25, 25, 50, 50}, {40, 20, 40, 33, 67}, {98, 1, 1, 50, 50}, {1, 98, 1, 99, 1}, {0, 60, 40, 60, 40}, {10, 90, 0, 100, 0},
	} {
		tab.Set(part{blue, tc.blue}, part{green, tc.green}, part{red, tc.red})
		tab.Seal("blue")
		assert.True(t, tab.Sealed("blue"))
		got := map[string]int{}
		for _, p := range tab.Parts() {
			got[p.Gen.Key.Slot] = p.Part
		}
		want := map[string]int{"green": tc.wantGreen, "red": tc.wantRed}
		maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
		assert.Equal(t, want, got)
	}
	tab.Set(part{blue, 100})
	assert.False(t, tab.Sealed("blue"))
	tab.Seal("blue")
	assert.Empty(t, tab.Parts())
}

// TestB1AllWaitersAreTold waits many times over for one slot: all return when the last piece of work leaves, none before.
func TestB1AllWaitersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab, blue, green := newTable()
		tab.Set(part{blue, 100})
		var e [3]entry
		for i := range e {
			tab.Enter(&e[i], nil)
		}
		tab.Set(part{green, 100})
		begin := time.Now()
		for i := range e {
			time.AfterFunc(time.Duration(i+1)*time.Hour, e[i].Leave)
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				assert.NoError(t, tab.WaitIdle(t.Context(), "blue"))
				assert.Equal(t, 3*time.Hour, time.Since(begin))
			})
		}
		all.Wait()
	})
}

// TestWaitSpansGenerations waits for a slot that gets a new generation meanwhile.
func TestWaitSpansGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab, blue, _ := newTable()
		tab.Set(part{blue, 100})
		var old, young entry
		tab.Enter(&old, nil)
		told := make(chan error, 1)
		go func() { told <- tab.WaitIdle(t.Context(), "blue") }()
		synctest.Wait()
		tab.Set(part{generation(tab, "blue", "v9"), 100})
		tab.Enter(&young, nil)
		old.Leave()
		synctest.Wait()
		assert.Empty(t, told, "the younger generation has work")
		young.Leave()
		synctest.Wait()
		require.Len(t, told, 1)
		assert.NoError(t, <-told)
	})
}

func TestOrders(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 100})
	cuts := 0
	e := entry{Cut: func() { cuts++ }}
	tab.Enter(&e, nil)
	tab.Set(part{green, 100})

	tab.Order("blue", route.HandOver)
	assert.Equal(t, route.HandOver, e.Order())
	tab.Set(part{blue, 100})
	assert.Equal(t, route.NoOrder, e.Order(), "going live again takes it back")

	tab.Order("blue", route.HandOver)
	assert.Equal(t, route.HandOver, e.Order(), "a live slot: what is in it")
	var next entry
	tab.Enter(&next, nil)
	assert.Equal(t, route.NoOrder, next.Order(), "but not what comes")
	next.Leave()

	tab.Set(part{green, 100})
	tab.Order("blue", route.Cut)
	assert.Equal(t, 1, cuts)
	e.Leave()
	tab.Order("blue", route.Cut)
	assert.Equal(t, 1, cuts, "gone")
}

// TestA6OrdersDoNotOutliveTheWayBack gives an order while a request is on its way in, and takes the slot back before that is counted.
func TestA6OrdersDoNotOutliveTheWayBack(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 100})
	tab.Set(part{green, 100})
	tab.Order("blue", route.Cut)
	tab.Set(part{blue, 100})
	e := entry{Cut: func() { t.Error("cut by an order from before the way back") }}
	assert.Same(t, blue, tab.Enter(&e, nil))
	assert.Equal(t, route.NoOrder, e.Order())
	e.Leave()
}

func TestList(t *testing.T) {
	tab, blue, _ := newTable()
	tab.Set(part{blue, 100})
	var es [5]entry
	for i := range es {
		es[i].Method, es[i].Path, es[i].Started = "PUT", "/"+string(rune('a'+i)), time.Unix(int64(i), 0)
		tab.Enter(&es[i], nil)
		es[i].In.Store(int64(i))
	}
	es[4].Upgrade()
	assert.ElementsMatch(t, []string{"/a", "/b", "/c", "/d", "/e"}, paths(tab.List("blue")))
	es[0].Leave()
	es[2].Leave()
	es[4].Leave()
	left := tab.List("blue")
	assert.ElementsMatch(t, []string{"/b", "/d"}, paths(left))
	assert.Equal(t, "PUT", left[0].Method)
	es[1].Leave()
	es[3].Leave()
	assert.Empty(t, tab.List("blue"))
}

func paths(ws []route.Work) (out []string) {
	for _, w := range ws {
		out = append(out, w.Path)
	}
	return out
}
