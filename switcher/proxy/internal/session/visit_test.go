package session_test

import (
	"net/http"
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
