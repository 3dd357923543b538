package session_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// TestVisitBeginsWithTheAnswer: a client that cannot name its session yet has none until it is about to hear of it, so that a request without
// an answer leaves nothing behind.
func TestVisitBeginsWithTheAnswer(t *testing.T) {
	tab := open(t, nil)
	var v session.Visit
	assert.Zero(t, v.Open(tab, http.Header{}))
	v.Enter(blue)
	v.Leave() // it could not be reached
	v.Enter(green)
	assert.Empty(t, tab.Generations())
	set := v.Answered(http.Header{})
	require.NotEmpty(t, set)
	assert.Equal(t, map[session.Generation]int{green: 1}, tab.Generations())
	v.Leave()

	h := with(sent(set))
	assert.Equal(t, green, v.Open(tab, h))
	v.Enter(green)
	assert.Empty(t, v.Answered(http.Header{}), "it has the cookie")
	v.Leave()
	assert.Equal(t, green, v.Open(tab, h))
	v.Enter(blue) // its slot was sealed meanwhile
	assert.Equal(t, map[session.Generation]int{green: 1}, tab.Generations(), "not before the client hears of it")
	set = v.Answered(http.Header{})
	require.NotEmpty(t, set)
	v.Leave()
	assert.Equal(t, map[session.Generation]int{blue: 1}, tab.Generations())
	v.Close()
	assert.False(t, v.On())
	v.Enter(blue)
	assert.Empty(t, v.Answered(http.Header{}))
	v.Leave()
}

// TestVisitOfASessionThatHasEnded: a request that was led to an old slot by a session begins no other there.
func TestVisitOfASessionThatHasEnded(t *testing.T) {
	for name, change := range map[string]func(*session.Config){"own cookie": own, "signed": nil} {
		tab := open(t, change)
		h := with("SID=one")
		if _, set := visit(tab, h, blue); set != "" {
			h = with(sent(set))
		}
		var v session.Visit
		require.Equal(t, blue, v.Open(tab, h), name)
		assert.Equal(t, 1, tab.EndAll(blue), name)
		v.Enter(blue)
		assert.Empty(t, v.Answered(http.Header{}), name)
		v.Leave()
		assert.Empty(t, tab.Generations(), name)
	}
}

// TestVisitCountsUntilLeave: a session with a request under way is not idle.
func TestVisitCountsUntilLeave(t *testing.T) {
	tab := open(t, func(c *session.Config) { own(c); c.Idle = 50 * time.Millisecond })
	var v session.Visit
	v.Open(tab, with("SID=one"))
	v.Enter(blue)
	v.Answered(http.Header{})
	var other session.Visit
	other.Open(tab, with("SID=two"))
	other.Enter(blue)
	other.Leave()
	require.Eventually(t, func() bool { n, _ := tab.Live(blue); return n == 1 }, 20*time.Second, time.Millisecond)
	v.Leave()
	require.Eventually(t, func() bool { n, _ := tab.Live(blue); return n == 0 }, 20*time.Second, time.Millisecond)
}

// BenchmarkVisit is what a request of a known session costs beside the rest of it.
func BenchmarkVisit(b *testing.B) {
	for name, change := range map[string]func(*session.Config){"own cookie": own, "signed": nil} {
		b.Run(name, func(b *testing.B) {
			tab := open(b, change)
			h := with("a=b; SID=one; c=d")
			if _, set := visit(tab, h, blue); set != "" {
				h = with("a=b; " + sent(set))
			}
			b.ReportAllocs()
			var v session.Visit
			answer := http.Header{}
			for b.Loop() {
				g := v.Open(tab, h)
				v.Enter(g)
				v.Answered(answer)
				v.Leave()
			}
		})
	}
}

// TestVisitRemembersNoMoreThanHolds: a Visit that serves one request after the other, as a connection's does, says of each what a fresh one
// says: of the same cookie, of another client's, of a forged one, when the session has ended or grown old, and when the keys have changed.
func TestVisitRemembersNoMoreThanHolds(t *testing.T) {
	for name, change := range map[string]func(*session.Config){"own cookie": own, "signed": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, change, func(t *testing.T, tab *session.Table) {
				client := func(key string, g session.Generation) http.Header {
					h := with("SID=" + key)
					if _, set := visit(tab, h, g); set != "" {
						h = with(sent(set))
					}
					return h
				}
				one, two := client("one", blue), client("two", green)
				var v session.Visit
				says := func(want session.Generation, h http.Header, what string) {
					t.Helper()
					var fresh session.Visit
					assert.Equal(t, want, fresh.Open(tab, h), what+", afresh")
					assert.Equal(t, want, v.Open(tab, h), what)
					v.Close()
				}
				for range 3 {
					says(blue, one, "the same again")
				}
				says(green, two, "another client's on the same connection")
				says(blue, one, "and the first one's again")
				forged := with(one.Get("Cookie")[:len(one.Get("Cookie"))-1] + "-")
				says(session.Generation{}, forged, "another value of that length")
				says(blue, one, "still")

				time.Sleep(19 * time.Minute)
				says(blue, one, "used in time")
				time.Sleep(19 * time.Minute)
				says(blue, one, "used in time again")
				time.Sleep(21 * time.Minute)
				assert.Zero(t, v.Open(tab, one), "idle for too long")
				v.Close()
				says(session.Generation{}, one, "it stays so")

				three := client("three", blue)
				says(blue, three, "a new one")
				tab.EndAll(blue)
				says(session.Generation{}, three, "ended")

				if name == "signed" {
					four := client("four", blue)
					says(blue, four, "before the keys change")
					require.NoError(t, tab.Rotate(keys(t, 2, 1)))
					says(blue, four, "its key is still known")
					require.NoError(t, tab.Rotate(keys(t, 2)))
					says(session.Generation{}, four, "its key is gone")
				}
			})
		})
	}
}

// TestSessionsInUseDoNotEnd: requests come and go while time ends what is idle, at the same moments. What is in use stays, and the numbers are
// right in the end.
func TestSessionsInUseDoNotEnd(t *testing.T) {
	tab := open(t, func(c *session.Config) { own(c); c.Idle = 40 * time.Millisecond })
	var all sync.WaitGroup
	until := time.Now().Add(time.Second)
	for i := range 8 {
		all.Go(func() {
			h := with("SID=" + string(rune('a'+i)))
			for n := 0; time.Now().Before(until); n++ {
				pause := time.Duration(30+n/100%20) * time.Millisecond // about as long as may be
				s, _ := tab.Begin(tab.Pick(h), blue)
				if n%100 == 0 {
					time.Sleep(pause)
				}
				if !assert.False(t, s.Ended(), "a request of it is under way") {
					return
				}
				s.Leave()
				if n%100 == 50 {
					time.Sleep(pause)
				}
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool { n, _ := tab.Live(blue); return n == 0 }, 20*time.Second, time.Millisecond)
	assert.Empty(t, tab.Generations())
	require.NoError(t, tab.Close())
}
