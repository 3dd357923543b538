package session_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

var (
	blue  = session.Generation{Slot: "blue", Release: "v1"}
	green = session.Generation{Slot: "green", Release: "v2"}
)

func keys(t testing.TB, seeds ...byte) *session.Keys {
	var all [][]byte
	for _, s := range seeds {
		all = append(all, bytes.Repeat([]byte{s}, 32))
	}
	k, err := session.NewKeys(all...)
	require.NoError(t, err)
	return k
}

func open(t testing.TB, change func(*session.Config)) *session.Table {
	cfg := session.Config{Cookie: "ab", Keys: keys(t, 1)}
	if change != nil {
		change(&cfg)
	}
	tab, err := session.Open(cfg)
	require.NoError(t, err)
	return tab
}

func own(c *session.Config) { c.Cookie, c.Keys, c.AppCookie = "", nil, "SID" }

func with(cookies string) http.Header { return http.Header{"Cookie": {cookies}} }

func answer(lines ...string) http.Header { return http.Header{"Set-Cookie": lines} }

// sent is what a client that got set sends.
func sent(set string) string {
	v, _, _ := strings.Cut(set, ";")
	return v
}

// visit is a request that enters g, whatever its session wants, and ends at once.
func visit(t *session.Table, h session.Head, g session.Generation) (s *session.Session, set string) {
	s, set = t.Begin(t.Pick(h), g)
	s.Leave()
	return s, set
}

func live(t *session.Table, g session.Generation) string {
	n, known := t.Live(g)
	return fmt.Sprint(n, " ", known)
}

// bubble runs f with a table, in a bubble, and closes it.
func bubble(t *testing.T, change func(*session.Config), f func(*testing.T, *session.Table)) {
	synctest.Test(t, func(t *testing.T) {
		tab := open(t, change)
		f(t, tab)
		require.NoError(t, tab.Close())
	})
}

func TestSignedSessionStays(t *testing.T) {
	bubble(t, nil, func(t *testing.T, tab *session.Table) {
		p := tab.Pick(http.Header{})
		assert.Equal(t, session.Generation{}, p.Want())
		s, set := tab.Begin(p, blue)
		require.NotNil(t, s)
		assert.Regexp(t, `^ab=[A-Za-z0-9_-]+; Path=/; HttpOnly; SameSite=Lax$`, set)
		s.Leave()
		p = tab.Pick(with("x=1; " + sent(set) + "; y=2"))
		assert.True(t, p.Known())
		assert.Equal(t, blue, p.Want())
		again, set2 := tab.Begin(p, blue)
		assert.Same(t, s, again)
		assert.Empty(t, set2)
		again.Leave()
		n, _ := tab.Live(blue)
		assert.Equal(t, 1, n)

		// It could not enter its generation: there it ends, and it begins anew elsewhere.
		other, set3 := visit(tab, with(sent(set)), green)
		assert.NotEmpty(t, set3)
		assert.Equal(t, green, other.Generation())
		assert.True(t, s.Ended())
		assert.Equal(t, map[session.Generation]int{green: 1}, tab.Generations())
		assert.Equal(t, session.Generation{}, tab.Pick(with(sent(set))).Want(), "it has ended")
	})
}

func TestD4EndsByIdleTime(t *testing.T) {
	bubble(t, nil, func(t *testing.T, tab *session.Table) {
		time.Sleep(time.Hour) // past what is not known
		_, set := visit(tab, http.Header{}, blue)
		for range 10 {
			time.Sleep(20*time.Minute - time.Millisecond)
			require.True(t, tab.Pick(with(sent(set))).Known())
		}
		assert.Equal(t, "1 true", live(tab, blue))
		time.Sleep(20 * time.Minute)
		assert.False(t, tab.Pick(with(sent(set))).Known())
		assert.Equal(t, "0 true", live(tab, blue))

		_, _ = visit(tab, http.Header{}, blue)
		time.Sleep(20*time.Minute + 6*time.Second)
		assert.Equal(t, "0 true", live(tab, blue), "also if nobody asks for it")
	})
}

func TestD4WorkUnderWayIsNotIdle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, tab *session.Table) {
		s, set := tab.Begin(tab.Pick(http.Header{}), blue)
		time.Sleep(5 * time.Hour)
		assert.Equal(t, "1 true", live(tab, blue), "a websocket")
		s.Leave()
		time.Sleep(19 * time.Minute)
		assert.True(t, tab.Pick(with(sent(set))).Known())
		time.Sleep(21 * time.Minute)
		assert.Equal(t, "0 true", live(tab, blue))
	})
}

func TestD4EndsByItsCap(t *testing.T) {
	bubble(t, func(c *session.Config) { c.Life = time.Hour }, func(t *testing.T, tab *session.Table) {
		s, set := tab.Begin(tab.Pick(http.Header{}), blue)
		for range 59 {
			time.Sleep(time.Minute)
			require.True(t, tab.Pick(with(sent(set))).Known())
		}
		time.Sleep(time.Minute)
		assert.False(t, tab.Pick(with(sent(set))).Known(), "also while a request is under way")
		assert.Equal(t, "0 true", live(tab, blue))
		s.Leave()
	})
	bubble(t, func(c *session.Config) { c.Life = -1 }, func(t *testing.T, tab *session.Table) {
		_, set := visit(tab, http.Header{}, blue)
		for range 1000 {
			time.Sleep(19 * time.Minute)
			require.True(t, tab.Pick(with(sent(set))).Known(), "no cap")
		}
	})
}

func TestD4EndsByTheApplicationsSign(t *testing.T) {
	for _, line := range []string{"auth=; Path=/", "auth=x; Max-Age=0", "auth=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "auth=x; max-age=-1"} {
		bubble(t, func(c *session.Config) { c.Over = "auth" }, func(t *testing.T, tab *session.Table) {
			s, set := tab.Begin(tab.Pick(http.Header{}), blue)
			assert.Same(t, s, tab.Answered(s, blue, answer("auth=token; Max-Age=60", "other=; Max-Age=0")))
			assert.False(t, s.Ended())
			assert.Same(t, s, tab.Answered(s, blue, answer("x=y", line)))
			assert.True(t, s.Ended(), line)
			s.Leave()
			assert.False(t, tab.Pick(with(sent(set))).Known())
			assert.Equal(t, session.Generation{}, tab.Pick(with(sent(set))).Want(), "though it is not known yet what is live")
			n, _ := tab.Live(blue)
			assert.Zero(t, n)
		})
	}
}

func TestApplicationsOwnCookie(t *testing.T) {
	bubble(t, own, func(t *testing.T, tab *session.Table) {
		s, set := tab.Begin(tab.Pick(http.Header{}), blue)
		assert.Nil(t, s, "nothing names it")
		assert.Empty(t, set)
		s = tab.Answered(s, blue, answer("SID=first; HttpOnly"))
		require.NotNil(t, s)
		s.Leave()
		p := tab.Pick(with("SID=first"))
		assert.Equal(t, blue, p.Want())
		s, _ = tab.Begin(p, blue)
		next := tab.Answered(s, blue, answer("SID=second"))
		assert.NotSame(t, s, next, "a new name, as after a log-in")
		next.Leave()
		assert.Equal(t, blue, tab.Pick(with("SID=second")).Want())
		assert.Equal(t, blue, tab.Pick(with("SID=first")).Want(), "another request may be under way")
		time.Sleep(30 * time.Minute)
		assert.Equal(t, "0 true", live(tab, blue))

		s, _ = visit(tab, with("SID=unheard-of"), green)
		assert.Equal(t, green, s.Generation(), "a session from before the proxy")
		assert.Equal(t, green, tab.Pick(with("SID=unheard-of")).Want())
		moved, _ := visit(tab, with("SID=unheard-of"), blue)
		assert.Equal(t, blue, moved.Generation())
		assert.True(t, s.Ended())
		tab.Answered(moved, blue, answer("SID=; Max-Age=0"))
		assert.True(t, moved.Ended())
	})
	bubble(t, func(c *session.Config) { own(c); c.AppCookie, c.AppHeader = "", "X-Session" }, func(t *testing.T, tab *session.Table) {
		h := http.Header{"X-Session": {"one"}}
		visit(tab, h, blue)
		assert.Equal(t, blue, tab.Pick(h).Want())
		assert.Equal(t, session.Generation{}, tab.Pick(http.Header{"X-Session": {"one", "two"}}).Want())
		assert.Equal(t, session.Generation{}, tab.Pick(http.Header{"X-Session": {strings.Repeat("x", 5000)}}).Want())
	})
}

// TestMovingOffARR: clients with ARR's cookie go where ARR sent them, once, and have a session of ours from then on.
func TestMovingOffARR(t *testing.T) {
	value := session.ARRValue("Node-A")
	assert.Len(t, value, 64)
	assert.Equal(t, value, session.ARRValue("node-a"), "case is ARR's to ignore")
	arr := func(c *session.Config) { c.ARR = map[string]session.Generation{"node-a": blue, "node-b": green} }
	bubble(t, arr, func(t *testing.T, tab *session.Table) {
		for _, v := range []string{value, strings.ToLower(value)} {
			p := tab.Pick(with("ARRAffinity=" + v))
			assert.False(t, p.Known())
			assert.Equal(t, blue, p.Want())
			s, set := tab.Begin(p, blue)
			assert.Equal(t, blue, s.Generation())
			s.Leave()
			assert.Equal(t, blue, tab.Pick(with(sent(set)+"; ARRAffinity="+session.ARRValue("node-b"))).Want(), "ours counts")
		}
		for _, v := range []string{"", "x", value[:63], value + "0", strings.Repeat("A", 9000)} {
			assert.Equal(t, session.Generation{}, tab.Pick(with("ARRAffinity="+v)).Want())
		}
	})
	bubble(t, func(c *session.Config) { own(c); arr(c); c.ARRCookie = "Mine" }, func(t *testing.T, tab *session.Table) {
		p := tab.Pick(with("SID=old; Mine=" + value))
		assert.Equal(t, blue, p.Want())
		s, _ := tab.Begin(p, blue)
		s.Leave()
		assert.Equal(t, blue, tab.Pick(with("SID=old")).Want())
		assert.Equal(t, session.Generation{}, tab.Pick(with("Mine="+value)).Want(), "a client without a session")
	})
}

// TestHostileCookies are refused, all of them alike.
func TestHostileCookies(t *testing.T) {
	bubble(t, nil, func(t *testing.T, tab *session.Table) {
		_, set := visit(tab, http.Header{}, blue)
		good := strings.TrimPrefix(sent(set), "ab=")
		require.True(t, tab.Pick(with("ab="+good)).Known())
		require.True(t, tab.Pick(with("ab="+`"`+good+`"`)).Known())
		bad := map[string]string{
			"empty": "", "one character": "A", "no base64": strings.Repeat("!", 80), "too long": strings.Repeat("A", 10_000), "cut": good[:len(good)-1],
			"longer": good + "A", "padded": good + "=", "twice": good + good, "standard alphabet": good[:len(good)-2] + "+/",
			"other name": "", "zeros": strings.Repeat("A", len(good)),
		}
		for i := range good { // each character changed
			c := byte('A')
			if good[i] == c {
				c = 'B'
			}
			bad[fmt.Sprint("character ", i)] = good[:i] + string(c) + good[i+1:]
		}
		for what, v := range bad {
			p := tab.Pick(with("ab=" + v))
			assert.False(t, p.Known(), what)
			assert.Equal(t, session.Generation{}, p.Want(), what)
		}
		assert.False(t, tab.Pick(with("AB="+good)).Known(), "names are as they are")
		assert.False(t, tab.Pick(with("abc="+good)).Known())
		assert.True(t, tab.Pick(with("ab=bad; ab="+good)).Known(), "a twin of another path")
		assert.False(t, tab.Pick(with(strings.Repeat("ab=bad; ", 5)+"ab="+good)).Known(), "but not any number of them")
		assert.False(t, tab.Pick(with(strings.Repeat("x", 20_000)+"; ab="+good)).Known(), "nor anywhere")

		other := open(t, func(c *session.Config) { c.Keys = keys(t, 2) })
		_, foreign := visit(other, http.Header{}, blue)
		require.NoError(t, other.Close())
		assert.Equal(t, session.Generation{}, tab.Pick(with(sent(foreign))).Want(), "another key")
		renamed := open(t, func(c *session.Config) { c.Cookie = "cd" })
		_, foreign = visit(renamed, http.Header{}, blue)
		require.NoError(t, renamed.Close())
		assert.Equal(t, session.Generation{}, tab.Pick(with("ab="+strings.TrimPrefix(sent(foreign), "cd="))).Want(), "another cookie's value")
	})
}

func TestKeysRotate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, tab *session.Table) {
		_, old := visit(tab, http.Header{}, blue)
		require.NoError(t, tab.Rotate(keys(t, 9, 1)))
		_, young := visit(tab, http.Header{}, blue)
		assert.True(t, tab.Pick(with(sent(old))).Known())
		assert.True(t, tab.Pick(with(sent(young))).Known())
		require.NoError(t, tab.Rotate(keys(t, 9)))
		assert.False(t, tab.Pick(with(sent(old))).Known())
		assert.True(t, tab.Pick(with(sent(young))).Known())
		assert.Error(t, tab.Rotate(nil))
	})
}

func TestMaxAndLongNames(t *testing.T) {
	bubble(t, func(c *session.Config) { c.Max = 3 }, func(t *testing.T, tab *session.Table) {
		var last string
		for i := range 5 {
			s, set := visit(tab, http.Header{}, blue)
			assert.Equal(t, i < 3, s != nil)
			assert.Equal(t, i < 3, set != "")
			if i < 3 {
				last = set
			}
		}
		assert.EqualValues(t, 2, tab.Refused())
		tab.End(tab.Pick(with(sent(last))).SessionForTest())
		s, _ := visit(tab, http.Header{}, blue)
		assert.NotNil(t, s)
		assert.Equal(t, 3, tab.EndAll(blue))
		s, set := visit(tab, http.Header{}, session.Generation{Slot: strings.Repeat("s", 300)})
		assert.Nil(t, s)
		assert.Empty(t, set)
		long := session.Generation{Slot: strings.Repeat("s", 200), Release: strings.Repeat("r", 200)}
		_, set = visit(tab, http.Header{}, long)
		assert.Equal(t, long, tab.Pick(with(sent(set))).Want())
	})
}

// crash is what a killed process leaves of the file of a table: a copy of it, under another name.
func crash(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "sessions")
	require.NoError(t, os.WriteFile(copied, text, 0o600))
	return copied
}

func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions")
	synctest.Test(t, func(t *testing.T) {
		in := func(c *session.Config) { c.File = file }
		tab := open(t, in)
		assert.Equal(t, "0 false", live(tab, blue), "there may have been another one before")
		time.Sleep(time.Hour)
		assert.Equal(t, "0 true", live(tab, blue))
		_, set := visit(tab, http.Header{}, blue)
		time.Sleep(15 * time.Minute)
		require.NoError(t, tab.Close())
		require.NoError(t, tab.Close())

		tab = open(t, in)
		assert.Equal(t, "1 true", live(tab, blue), "nothing was lost")
		time.Sleep(4 * time.Minute)
		assert.True(t, tab.Pick(with(sent(set))).Known(), "19 minutes idle")
		time.Sleep(21 * time.Minute)
		assert.Equal(t, "0 true", live(tab, blue))
		require.NoError(t, tab.Close())

		tab = open(t, in)
		assert.False(t, tab.Pick(with(sent(set))).Known(), "what has ended does not come back")
		assert.Equal(t, session.Generation{}, tab.Pick(with(sent(set))).Want())
		require.NoError(t, tab.Close())
	})
}

// TestD4AfterAKill: the count is not known for one idle period, and no session is lost, also one that was not on the disk yet.
func TestD4AfterAKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions")
	synctest.Test(t, func(t *testing.T) {
		tab := open(t, func(c *session.Config) { c.File = file })
		time.Sleep(time.Hour)
		_, early := visit(tab, http.Header{}, blue)
		time.Sleep(3 * time.Second) // it is written
		synctest.Wait()
		_, late := visit(tab, http.Header{}, blue)
		assert.Equal(t, "2 true", live(tab, blue))

		found := open(t, func(c *session.Config) { c.File = crash(t, file) })
		assert.Equal(t, "1 false", live(found, blue), "never 0, and never sure")
		assert.True(t, found.Pick(with(sent(early))).Known())
		p := found.Pick(with(sent(late)))
		assert.False(t, p.Known())
		assert.Equal(t, blue, p.Want(), "its cookie says where it lives")
		s, set := found.Begin(p, blue)
		assert.Empty(t, set, "the client has its cookie")
		s.Leave()
		assert.Equal(t, "2 false", live(found, blue))
		found.End(s)
		assert.Equal(t, session.Generation{}, found.Pick(with(sent(late))).Want(), "ended is ended")
		time.Sleep(20*time.Minute - time.Second)
		_, known := found.Live(blue)
		assert.False(t, known)
		assert.True(t, found.Pick(with(sent(early))).Known(), "it was used after the start")
		time.Sleep(10 * time.Second)
		assert.Equal(t, "1 true", live(found, blue))
		time.Sleep(20 * time.Minute)
		assert.Equal(t, "0 true", live(found, blue))
		assert.Equal(t, session.Generation{}, found.Pick(with(sent(late))).Want(), "a cookie alone counts no longer")
		require.NoError(t, found.Close())
		require.NoError(t, tab.Close())
	})
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sessions")
	tab := open(t, func(c *session.Config) { c.File = file })
	visit(tab, http.Header{}, blue)
	require.NoError(t, tab.Close())
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, damage := range [][]byte{nil, []byte("x"), whole[:len(whole)-1], append(bytes.Clone(whole), 0), bytes.Replace(whole, []byte("blue"), []byte("grey"), 1)} {
		require.NoError(t, os.WriteFile(file, damage, 0o600))
		tab := open(t, func(c *session.Config) { c.File = file })
		assert.ErrorContains(t, tab.Fault(), "damaged")
		assert.Equal(t, "0 false", live(tab, blue))
		require.NoError(t, tab.Close())
	}
	_, err = session.Open(session.Config{Cookie: "ab", Keys: keys(t, 1), File: filepath.Join(dir, "no", "such", "folder")})
	assert.Error(t, err)
}

// TestD4ThousandsOverManyDeploys: 5,000 sessions over 20 switches. None moves, and a slot has none exactly when its last one has ended.
func TestD4ThousandsOverManyDeploys(t *testing.T) {
	bubble(t, func(c *session.Config) { c.Idle = 10 * time.Minute }, func(t *testing.T, tab *session.Table) {
		const deploys, each = 20, 250
		gens := make([]session.Generation, deploys)
		cookies := make([][]string, deploys)
		for d := range deploys {
			gens[d] = session.Generation{Slot: []string{"blue", "green"}[d%2], Release: fmt.Sprint("v", d)}
			for range each {
				_, set := visit(tab, http.Header{}, gens[d])
				cookies[d] = append(cookies[d], sent(set))
			}
			time.Sleep(time.Minute)
			for e := range d + 1 { // all come back
				for _, c := range cookies[e] {
					p := tab.Pick(with(c))
					require.Equal(t, gens[e], p.Want())
					s, set := tab.Begin(p, p.Want())
					require.Empty(t, set)
					s.Leave()
				}
			}
		}
		for d := range deploys {
			for i, c := range cookies[d] {
				n, _ := tab.Live(gens[d])
				require.Equal(t, each-i, n)
				tab.End(tab.Pick(with(c)).SessionForTest())
			}
			assert.Equal(t, "0 true", live(tab, gens[d]))
		}
	})
}

// TestManyAtOnce uses sessions from all sides; in the end the counts are exact.
func TestManyAtOnce(t *testing.T) {
	tab := open(t, func(c *session.Config) { c.File, c.Save = filepath.Join(t.TempDir(), "s"), 5*time.Millisecond })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			g := []session.Generation{blue, green}[i%2]
			for range 200 {
				s, set := visit(tab, http.Header{}, g)
				again, _ := tab.Begin(tab.Pick(with(sent(set))), g)
				if again != s {
					t.Error("another session")
				}
				tab.Live(g)
				if i%4 < 2 {
					tab.End(s)
				}
				again.Leave()
			}
		})
	}
	all.Wait()
	assert.Equal(t, map[session.Generation]int{blue: 400, green: 400}, tab.Generations())
	require.NoError(t, tab.Close())
	assert.NoError(t, tab.Fault())
}

// TestTheSameKeyAtOnce: requests of one new client come together. They have one session.
func TestTheSameKeyAtOnce(t *testing.T) {
	tab := open(t, own)
	defer tab.Close()
	p := tab.Pick(with("SID=one"))
	q := tab.Pick(with("SID=one"))
	a, _ := tab.Begin(p, blue)
	b, _ := tab.Begin(q, blue)
	assert.Same(t, a, b)
	c, _ := tab.Begin(p, green)
	assert.Nil(t, c, "it lives in blue")
	assert.Equal(t, map[session.Generation]int{blue: 1}, tab.Generations())
}

func TestMistakes(t *testing.T) {
	_, err := session.Open(session.Config{Cookie: "a b", AppCookie: "x", Over: ";", Idle: -1, ARR: map[string]session.Generation{"": {}}})
	for _, want := range []string{"Cookie", "Keys", "one of", "Over", "Idle", "ARR"} {
		assert.ErrorContains(t, err, want)
	}
}
