package route_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShardsComeWhereRequestsMeet has many requests at once: the generation that begins with one shard gets more, and each request leaves on the
// one on which it entered.
func TestShardsComeWhereRequestsMeet(t *testing.T) {
	tab, blue, green := newTable()
	require.Len(t, blue.Raw(), 1)
	tab.Set(part{blue, 100})
	for range 1000 {
		var e entry
		tab.Enter(&e, nil)
		e.Leave()
	}
	assert.Len(t, blue.Raw(), 1, "nobody has met anybody")

	var stayed entry
	tab.Enter(&stayed, nil)
	hold := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // whoever lists the work holds each shard's lock for a while: on one processor nobody would meet otherwise
		for {
			select {
			case <-hold:
				return
			default:
				tab.List("blue")
			}
		}
	})
	var some sync.WaitGroup
	for range 8 {
		some.Go(func() {
			for len(blue.Raw()) < 8 {
				var e entry
				tab.Enter(&e, nil)
				runtime.Gosched()
				e.Leave()
			}
		})
	}
	some.Wait()
	close(hold)
	all.Wait()
	assert.Equal(t, 1, tab.Count("blue").Total())
	stayed.Leave()
	assert.Zero(t, tab.Count("blue").Total())
	for i, s := range blue.Raw() {
		assert.Equal(t, s[0], s[1], "shard %d", i)
	}
	blue.Grow()
	n := len(blue.Raw())
	blue.Grow()
	assert.Len(t, blue.Raw(), n, "no more than there may be")
	assert.Len(t, green.Raw(), 1)
}

// TestZeroIsTrueWhileShardsCome is TestZeroIsTrueWhileOthersEnter, with generations whose shards become more all the while.
func TestZeroIsTrueWhileShardsCome(t *testing.T) {
	for range 300 {
		tab, blue, _ := newTable()
		tab.Set(part{blue, 100})
		var e [2]entry
		tab.Enter(&e[0], nil)
		stop := make(chan struct{})
		var others sync.WaitGroup
		others.Go(blue.Grow)
		others.Go(func() {
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
		for range 500 {
			if tab.Count("blue").Total() == 0 {
				t.Error("read 0 while a request was in flight")
				break
			}
		}
		close(stop)
		others.Wait()
	}
}

// TestAwayIsExact stops a request between "picked" and "counted", says that the table is away, and sees it empty: the request does not enter,
// and is told why. The same for one that a hold would let pass, and one that it keeps.
func TestAwayIsExact(t *testing.T) {
	for name, pass := range map[string]bool{"plain": false, "of a hold": true} {
		t.Run(name, func(t *testing.T) {
			tab, blue, green := newTable()
			picked, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			tab.SetHooks(hooks{Picked: func(*gen) { once.Do(func() { close(picked); <-goOn }) }})
			tab.Set(part{blue, 40}, part{green, 60})
			tab.SetHeld(pass)
			e := entry{Pass: pass}
			ended := make(chan *gen)
			go func() { ended <- tab.Enter(&e, nil) }()
			<-picked
			tab.SetAway(true)
			require.NoError(t, tab.WaitIdle(t.Context(), "blue"))
			require.NoError(t, tab.WaitIdle(t.Context(), "green"))
			close(goOn)
			assert.Nil(t, <-ended)
			assert.True(t, e.Away)
			assert.False(t, e.Held)

			tab.Set(part{green, 100}) // what has a part changes nothing
			assert.Nil(t, tab.Enter(&e, nil))
			assert.True(t, e.Away)

			tab.SetAway(false)
			assert.Same(t, green, tab.Enter(&e, nil))
			assert.False(t, e.Away)
			e.Leave()
			var kept entry
			assert.Equal(t, !pass, tab.Enter(&kept, nil) != nil, "the hold has outlived it")
			assert.Equal(t, pass, kept.Held)
		})
	}
}
