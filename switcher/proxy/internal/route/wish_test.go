package route_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

func newKeepingTable() (t *table, blue, green *gen) {
	t = route.New[string]("blue", "green", "red")
	t.KeepSessions()
	return t, generation(t, "blue", "v1"), generation(t, "green", "v2")
}

func session(slot, release string) route.Wish {
	return route.Wish{Kind: route.Session, Slot: slot, Release: release}
}

// enterBy lets one entry with that wish in and out, and returns where it was.
func enterBy(t *table, w route.Wish, avoid *gen) string {
	e := entry{Wish: w}
	g := t.Enter(&e, avoid)
	if g == nil {
		return ""
	}
	defer e.Leave()
	return g.Key.Slot + " " + g.Key.Release
}

func TestSessionsStayInASlotWithoutPart(t *testing.T) {
	tab, blue, green := newKeepingTable()
	tab.Set(part{blue, 100})
	tab.Set(part{green, 100})
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil))
	assert.Equal(t, "green v2", enterBy(tab, session("green", "v2"), nil))
	assert.Equal(t, "green v2", enterBy(tab, route.Wish{}, nil), "what is new goes to the new slot")
	assert.Equal(t, "green v2", enterBy(tab, session("blue", "v0"), nil), "another release is another application")
	assert.Equal(t, "green v2", enterBy(tab, session("red", ""), nil), "a slot that nobody knows")
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", ""), nil), "a session from before the release was told")
	assert.Equal(t, "green v2", enterBy(tab, session("blue", "v1"), blue), "it could not be reached")
	tab.Set(part{blue, 5}, part{green, 95})
	for range 200 {
		require.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil), "with a small part too")
		require.Equal(t, "green v2", enterBy(tab, session("green", "v2"), nil))
	}
	tab.Set(part{blue, 100}) // the way back
	assert.Equal(t, "green v2", enterBy(tab, session("green", "v2"), nil))
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil))

	tab.Seal("green")
	assert.Equal(t, "blue v1", enterBy(tab, session("green", "v2"), nil), "sealed: entered by nobody")
	tab.Set(part{green, 100})
	tab.LetGo("blue")
	assert.Equal(t, "green v2", enterBy(tab, session("blue", "v1"), nil))
	tab.Set(part{blue, 100})
	tab.Set(part{green, 100})
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil), "a part takes back what LetGo did")
	tab.Set()
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil), "also while no slot takes new work")
	assert.Empty(t, enterBy(tab, route.Wish{}, nil))
}

func TestSessionsAreNotKeptWhereThatIsOff(t *testing.T) {
	tab, blue, green := newTable()
	tab.Set(part{blue, 50}, part{green, 50})
	assert.Equal(t, "blue v1", enterBy(tab, session("blue", "v1"), nil))
	tab.Set(part{green, 100})
	assert.Equal(t, "green v2", enterBy(tab, session("blue", "v1"), nil))
}

// TestStayNeverLeadsToAPartOfZero is about weights that stick: such a wish ends with the part.
func TestStayNeverLeadsToAPartOfZero(t *testing.T) {
	tab, blue, green := newKeepingTable()
	stay := route.Wish{Kind: route.Stay, Slot: "green", Release: "v2"}
	tab.Set(part{blue, 95}, part{green, 5})
	for range 200 {
		require.Equal(t, "green v2", enterBy(tab, stay, nil))
	}
	tab.Set(part{blue, 100})
	assert.Equal(t, "blue v1", enterBy(tab, stay, nil), "though it keeps sessions")
}

// TestAnotherGenerationEndsTheSessionsOfTheLast redeploys into a slot: what began in the old release is not led to the new one.
func TestAnotherGenerationEndsTheSessionsOfTheLast(t *testing.T) {
	tab, blue, green := newKeepingTable()
	tab.Set(part{blue, 100})
	tab.Set(part{green, 100})
	next := generation(tab, "blue", "v3")
	var e entry
	e.Wish = session("blue", "v1")
	require.Same(t, blue, tab.Enter(&e, nil), "until the next state")
	assert.Contains(t, tab.Generations("blue"), blue)
	assert.Equal(t, 1, tab.Count("blue").Total(), "and it is counted")
	e.Leave()
	_ = generation(tab, "blue", "v4") // whoever is led somewhere is not forgotten, also with nothing in flight
	assert.Contains(t, tab.Generations("blue"), blue)
	assert.NotContains(t, tab.Generations("blue"), next)
	next = generation(tab, "blue", "v3")
	tab.Set(part{next, 50}, part{green, 50})
	for range 200 {
		require.Equal(t, "blue v3", enterBy(tab, session("blue", "v3"), nil))
		require.NotEqual(t, "blue v1", enterBy(tab, session("blue", "v1"), nil))
	}
}

func TestPreview(t *testing.T) {
	tab, blue, green := newKeepingTable()
	look := route.Wish{Kind: route.Preview, Slot: "green"}
	tab.Set(part{blue, 100})
	assert.Equal(t, "blue v1", enterBy(tab, look, nil), "not asked for")
	tab.Seal("green")
	tab.Order("green", route.Cut)
	tab.Preview(green)
	assert.Equal(t, "green v2", enterBy(tab, look, nil), "the younger order")
	assert.Equal(t, "green v2", enterBy(tab, look, green), "nobody is shown another release")
	assert.Equal(t, "blue v1", enterBy(tab, route.Wish{}, nil))
	assert.Equal(t, "blue v1", enterBy(tab, session("green", "v2"), nil), "its seal holds for all others")
	e := entry{Wish: look, Cut: func() { t.Error("cut by an order from before the preview") }}
	tab.Enter(&e, nil)
	assert.Equal(t, route.NoOrder, e.Order())
	assert.Equal(t, route.Count{Requests: 1}, tab.Count("green"), "counted")
	tab.Set(part{blue, 50}, part{green, 50})
	assert.Equal(t, "green v2", enterBy(tab, look, nil), "whatever the parts say")
	tab.Set(part{blue, 100})
	assert.Equal(t, "green v2", enterBy(tab, look, nil))
	tab.StopPreview("green")
	assert.Equal(t, "blue v1", enterBy(tab, look, nil))
	e.Leave()
	tab.Preview(green)
	tab.Seal("green")
	assert.Equal(t, "blue v1", enterBy(tab, look, nil), "Seal ends it")
	next := generation(tab, "green", "v3")
	tab.Preview(next)
	assert.Equal(t, "green v3", enterBy(tab, look, nil), "the known generation")
}

// TestWishesAreLookedAtTwice seals the slot of a session, or of a preview, between its pick and its second look: it picks again. This is what
// makes a count of zero final behind Seal.
func TestWishesAreLookedAtTwice(t *testing.T) {
	for name, w := range map[string]route.Wish{"session": session("blue", "v1"), "preview": {Kind: route.Preview, Slot: "blue"}} {
		for at, hooks := range map[string]func(func()) route.Hooks[string]{
			"picked":  func(f func()) route.Hooks[string] { return route.Hooks[string]{Picked: func(*gen) { f() }} },
			"counted": func(f func()) route.Hooks[string] { return route.Hooks[string]{Counted: func(*gen) { f() }} },
		} {
			t.Run(name+" "+at, func(t *testing.T) {
				tab, blue, green := newKeepingTable()
				tab.Set(part{blue, 100})
				tab.Set(part{green, 100})
				tab.Preview(blue)
				var once sync.Once
				tab.SetHooks(hooks(func() { once.Do(func() { tab.Seal("blue") }) }))
				e := entry{Wish: w}
				assert.Same(t, green, tab.Enter(&e, nil))
				assert.Zero(t, tab.Count("blue").Total())
				e.Leave()
			})
		}
	}
}

// TestNothingEntersASealedSlot lets sessions, previews and others enter while the slots are sealed and opened in turn: what began under a seal
// never enters that slot.
func TestNothingEntersASealedSlot(t *testing.T) {
	tab, blue, green := newKeepingTable()
	tab.Set(part{blue, 100})
	var epoch atomic.Int64 // even: blue is sealed, and stays so; odd: it is not, or not for certain
	epoch.Store(1)
	var wrong, inBlue atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range 6 {
		w := []route.Wish{session("blue", "v1"), {Kind: route.Preview, Slot: "blue"}, {Kind: route.Stay, Slot: "blue"}}[i%3]
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := entry{Wish: w}
				before := epoch.Load()
				g := tab.Enter(&e, nil)
				if g == blue {
					inBlue.Add(1)
					if before%2 == 0 && before == epoch.Load() {
						wrong.Add(1)
					}
				}
				e.Leave()
			}
		})
	}
	for i := 0; i < 500 || inBlue.Load() < 1000; i++ {
		tab.Set(part{blue, 50}, part{green, 50})
		tab.Set(part{green, 100})
		tab.Preview(blue)
		tab.Seal("blue")
		epoch.Add(1)
		require.NoError(t, tab.WaitIdle(t.Context(), "blue"))
		epoch.Add(1)
	}
	close(stop)
	workers.Wait()
	assert.Zero(t, wrong.Load())
	assert.Zero(t, tab.Count("blue").Total()+tab.Count("green").Total())
}

func TestOrdersReachSessionsThatAreKept(t *testing.T) {
	tab, blue, green := newKeepingTable()
	tab.Set(part{blue, 100})
	cuts := 0
	e := entry{Cut: func() { cuts++ }}
	tab.Enter(&e, nil)
	tab.Set(part{green, 100})
	tab.Order("blue", route.HandOver)
	assert.Equal(t, route.HandOver, e.Order())
	next := entry{Wish: session("blue", "v1")}
	require.Same(t, blue, tab.Enter(&next, nil))
	assert.Equal(t, route.NoOrder, next.Order(), "what comes while it is led there is not told")
	tab.LetGo("blue")
	tab.Order("blue", route.Cut)
	assert.Equal(t, 1, cuts)
	e.Leave()
	next.Leave()
	assert.Equal(t, "green v2", enterBy(tab, session("blue", "v1"), nil))
}

func TestWishesAllocateNothing(t *testing.T) {
	tab, blue, green := newKeepingTable()
	tab.Set(part{blue, 100})
	tab.Set(part{green, 100})
	tab.Preview(green)
	for _, w := range []route.Wish{session("blue", "v1"), {Kind: route.Preview, Slot: "green"}, {Kind: route.Stay, Slot: "red"}} {
		e := entry{Wish: w}
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			tab.Enter(&e, nil)
			e.Leave()
		}))
	}
}
