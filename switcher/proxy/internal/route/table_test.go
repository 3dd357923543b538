package route_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

type (
	table = route.Table[string]
	gen   = route.Generation[string]
	entry = route.Entry[string]
	part  = route.Part[string]
	hooks = route.Hooks[string]
)

func newTable() (t *table, blue, green *gen) {
	t = route.New[string]("blue", "green", "red")
	return t, generation(t, "blue", "v1"), generation(t, "green", "v2")
}

func generation(t *table, slot, release string) *gen {
	return t.Generation(route.Key{Slot: slot, Release: release}, func() string { return slot })
}

// TestA1PickBeforeCount stops a request between "picked" and "counted", switches, and sees the old slot empty: the request must not go there
// any more. The careless variant does, which is the fault.
func TestA1PickBeforeCount(t *testing.T) {
	for _, tc := range []struct {
		name  string
		enter func(*table, *entry, *gen) *gen
		want  string
	}{
		{"as it is", (*table).Enter, "green"},
		{"without the second look", (*table).EnterCareless, "blue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tab, blue, green := newTable()
			picked, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			tab.SetHooks(route.Hooks[string]{Picked: func(*gen) { once.Do(func() { close(picked); <-goOn }) }})
			tab.Set(part{blue, 100})
			var got *gen
			var e entry
			ended := make(chan struct{})
			go func() { got = tc.enter(tab, &e, nil); close(ended) }()
			<-picked
			tab.Set(part{green, 100})
			require.NoError(t, tab.WaitIdle(t.Context(), "blue"), "nothing is in blue")
			close(goOn)
			<-ended
			assert.Equal(t, tc.want, got.Key.Slot)
			assert.Equal(t, 1, tab.Count(tc.want).Total())
		})
	}
}

// TestA1CountedBeforeSecondLook stops a request that has been counted and has not looked again: it may be seen, and then goes elsewhere.
func TestA1CountedBeforeSecondLook(t *testing.T) {
	tab, blue, green := newTable()
	counted, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	tab.SetHooks(route.Hooks[string]{Counted: func(*gen) { once.Do(func() { close(counted); <-goOn }) }})
	tab.Set(part{blue, 100})
	var e entry
	got := make(chan *gen)
	go func() { got <- tab.Enter(&e, nil) }()
	<-counted
	assert.Equal(t, 1, tab.Count("blue").Total(), "it may be about to go there: not idle")
	tab.Set(part{green, 100})
	idle := make(chan error)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() { idle <- tab.WaitIdle(ctx, "blue") }()
	close(goOn)
	assert.Same(t, green, <-got)
	assert.NoError(t, <-idle, "told when it leaves")
	e.Leave()
	assert.Zero(t, tab.Count("green").Total())
}

// TestStateIsNeverReused switches to another slot and back between pick and second look: that is a change, and the request picks again.
func TestStateIsNeverReused(t *testing.T) {
	tab, blue, green := newTable()
	picks := 0
	tab.SetHooks(route.Hooks[string]{Counted: func(*gen) {
		if picks++; picks == 1 {
			tab.Set(part{green, 100})
			tab.Set(part{blue, 100})
		}
	}})
	tab.Set(part{blue, 100})
	var e entry
	assert.Same(t, blue, tab.Enter(&e, nil))
	assert.Equal(t, 2, picks)
	assert.Equal(t, route.Count{Requests: 1}, tab.Count("blue"))
	e.Leave()
	assert.Zero(t, tab.Count("blue").Total())
}

// TestB2CountsEndAtZero lets many enter and leave while the state flips: on every shard as many left as entered, and nothing ever entered a
// generation that was off when it began.
func TestB2CountsEndAtZero(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 100})
	var epoch atomic.Int64 // even: Set(blue) has returned and no other has begun; odd: the same of green; negative: a Set runs
	var late atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			var e entry
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				before := epoch.Load()
				g := tab.Enter(&e, nil)
				if before >= 0 && before == epoch.Load() && (g == blue) != (before%2 == 0) {
					late.Add(1)
				}
				if n%3 == 0 {
					e.Upgrade()
				}
				if n%7 == 0 {
					runtime.Gosched()
				}
				e.Leave()
				e.Leave() // does nothing
			}
		})
	}
	before := map[*gen]uint64{}
	for i := 0; i < 3000 || before[blue] == 0 || before[green] == 0; i++ { // the workers may begin late
		on, off := blue, green
		if i%2 == 0 {
			on, off = green, blue
		}
		epoch.Store(-1)
		tab.Set(part{on, 100})
		epoch.Store(int64(i + 1))
		for _, g := range []*gen{on, off} {
			sum := uint64(0)
			for _, s := range g.Raw() {
				sum += s[0] + s[1] + s[2] + s[3]
			}
			require.GreaterOrEqual(t, sum, before[g], "counters are never reset")
			before[g] = sum
		}
		if i%50 == 0 {
			require.NoError(t, tab.WaitIdle(t.Context(), off.Key.Slot))
		}
	}
	close(stop)
	workers.Wait()
	assert.Zero(t, late.Load(), "entered a slot that was off when they began")
	for _, g := range []*gen{blue, green} {
		assert.Equal(t, route.Count{}, g.Count())
		for i, s := range g.Raw() {
			assert.Equal(t, s[0], s[1], "shard %d of %s: left where they entered", i, g.Key.Slot)
			assert.Equal(t, s[2], s[3], "shard %d of %s: upgraded", i, g.Key.Slot)
		}
	}
}

// TestZeroIsTrueWhileOthersEnter keeps at least one request in flight at every moment, by letting the next enter before the last leaves, and
// reads: a sum over shards that reads each shard once would sometimes miss both.
func TestZeroIsTrueWhileOthersEnter(t *testing.T) {
	tab, blue, _ := newTable()
	blue.Grow()
	tab.Set(part{blue, 100})
	var e [2]entry
	tab.Enter(&e[0], nil)
	stop := make(chan struct{})
	var walker sync.WaitGroup
	walker.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				tab.Enter(&e[i%2], nil)
				e[(i+1)%2].Leave()
			}
		}
	})
	for range 300_000 {
		if tab.Count("blue").Total() == 0 {
			t.Error("read 0 while a request was in flight")
			break
		}
	}
	close(stop)
	walker.Wait()
}

// TestUpgradeIsNeverInvisible reads while a request becomes an upgraded connection: at no instant is it neither.
func TestUpgradeIsNeverInvisible(t *testing.T) {
	tab, blue, _ := newTable()
	tab.Set(part{blue, 100})
	var e entry
	for range 3000 {
		tab.Enter(&e, nil)
		begin := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() { <-begin; e.Upgrade() })
		close(begin)
		for range 5 {
			if tab.Count("blue").Total() < 1 {
				t.Fatal("seen as nothing")
			}
		}
		both.Wait()
		require.Equal(t, route.Count{Upgraded: 1}, tab.Count("blue"))
		e.Leave()
	}
	assert.Equal(t, route.Count{}, tab.Count("blue"))
}

// TestA7GenerationsInheritNothing redeploys into the same slot: the counts begin afresh, what is left of the old generation is still counted
// for the slot, and a generation is only forgotten when nothing is left in it.
func TestA7GenerationsInheritNothing(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 100})
	var old entry
	tab.Enter(&old, nil)
	assert.Same(t, blue, generation(tab, "blue", "v1"), "the same one goes on")

	started := time.Unix(7, 0)
	again := tab.Generation(route.Key{Slot: "blue", Release: "v1", Started: started}, func() string { return "x" })
	require.NotSame(t, blue, again, "started anew: another life")
	assert.Zero(t, again.Count().Total())
	tab.Set(part{again, 100})
	var e entry
	assert.Same(t, again, tab.Enter(&e, nil))
	assert.Equal(t, 2, tab.Count("blue").Requests, "both generations")
	assert.Equal(t, 1, again.Count().Requests)
	e.Leave()

	third := generation(tab, "blue", "v3")
	assert.Contains(t, tab.Generations("blue"), blue, "work is left in it")
	assert.Contains(t, tab.Generations("blue"), again, "it takes work")
	tab.Set(part{green, 100})
	entered := blue.Raw()
	old.Leave()
	fourth := generation(tab, "blue", "v4")
	assert.Equal(t, []*gen{fourth}, tab.Generations("blue"))
	assert.Equal(t, sum(entered, 0), sum(blue.Raw(), 0), "forgotten, not reset")
	_ = third
}

func sum(raw [][4]uint64, i int) (n uint64) {
	for _, s := range raw {
		n += s[i]
	}
	return n
}

// TestRedialEntersAgain asks for another slot than the one that could not be reached.
func TestRedialEntersAgain(t *testing.T) {
	tab, blue, green := newTable()
	red := generation(tab, "red", "v0")
	tab.Set(part{blue, 1}, part{green, 69}, part{red, 30})
	for range 200 {
		var e entry
		assert.NotSame(t, green, tab.Enter(&e, green))
		e.Leave()
	}
	tab.Set(part{blue, 100})
	var e entry
	assert.Same(t, blue, tab.Enter(&e, blue), "there is no other")
	e.Leave()
	tab.Set()
	assert.Nil(t, tab.Enter(&e, nil))
	e.Leave() // was never counted
	assert.Zero(t, tab.Count("blue").Total()+tab.Count("green").Total()+tab.Count("red").Total())
}

func TestEnterAndLeaveAllocateNothing(t *testing.T) {
	tab, blue, green := newTable()
	var e entry
	for name, parts := range map[string][]part{"one": {{blue, 100}}, "weighted": {{blue, 30}, {green, 70}}} {
		tab.Set(parts...)
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			tab.Enter(&e, nil)
			e.Leave()
		}), name)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	tab, blue, green := newTable()
	for _, bc := range []struct {
		name  string
		parts []part
	}{{"one", []part{{blue, 100}}}, {"weighted", []part{{blue, 30}, {green, 70}}}} {
		tab.Set(bc.parts...)
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			var e entry
			for b.Loop() {
				tab.Enter(&e, nil)
				e.Leave()
			}
		})
		b.Run(bc.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var e entry
				for pb.Next() {
					tab.Enter(&e, nil)
					e.Leave()
				}
			})
		})
	}
}

func BenchmarkCount(b *testing.B) {
	tab, blue, _ := newTable()
	blue.Grow()
	tab.Set(part{blue, 100})
	for b.Loop() {
		tab.Count("blue")
	}
}
