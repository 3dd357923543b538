package proxy_test

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

var (
	manySessions = flag.Int("sessions", 500, "live sessions of TestD4NoneMovesOverManyDeploys")
	manyDeploys  = flag.Int("deploys", 5, "deploys of TestD4NoneMovesOverManyDeploys")
)

// walker is a client of a session that asks over one connection, by as little as that takes.
type walker struct {
	cookie string
	home   string // slot and release in which the session began
}

// walkers ask through few connections for many clients.
type walkers struct {
	t    testing.TB
	addr string
	conn *rawClient
}

func (w *walkers) get(x *walker, path string) (home string) {
	w.t.Helper()
	if w.conn == nil {
		c, err := net.Dial("tcp", w.addr)
		require.NoError(w.t, err)
		w.conn = &rawClient{c.(*net.TCPConn), bufio.NewReader(c), w.t}
	}
	w.conn.SetDeadline(time.Now().Add(patience))
	ask := "GET " + path + " HTTP/1.1\r\nHost: x\r\n"
	if x.cookie != "" {
		ask += "Cookie: " + x.cookie + "\r\n"
	}
	w.conn.send(ask + "\r\n")
	resp, err := http.ReadResponse(w.conn.br, nil)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, resp.StatusCode)
	require.NoError(w.t, resp.Body.Close())
	for _, c := range resp.Cookies() {
		if c.Name == "abswap-session" {
			x.cookie = c.Name + "=" + c.Value
		}
	}
	return resp.Header.Get("Served-By")
}

// TestD4NoneMovesOverManyDeploys keeps many sessions alive over many deploys into three slots. Each session asks between any two steps of a
// deploy, and is answered where it began, until it ends; a deploy waits for the sessions of the slot that it needs, and not a moment longer; the
// slot is sealed when the last one has ended, and gets another release.
func TestD4NoneMovesOverManyDeploys(t *testing.T) {
	names := []string{"blue", "green", "red"}
	slots := map[string]string{}
	for _, name := range names {
		s := newBackend(t, name, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/logout" {
				http.SetCookie(w, &http.Cookie{Name: "APP", MaxAge: -1})
			}
		})
		slots[name] = address(s.Server)
	}
	f := serve(t, proxy.Config{Slots: slots, ReleaseHeader: "Served-By", StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{Over: "APP"}})
	release := map[string]string{}
	deploy := func(n int) (slot string, home string) {
		slot = names[n%len(names)]
		release[slot] = fmt.Sprintf("v%d", n)
		f.activate(t, newSlot(slot, abswap.SlotState{Release: release[slot]}))
		return slot, slot + "/" + release[slot]
	}
	slot, home := deploy(0)
	live := map[string][]*walker{}
	moved, asked := 0, 0
	few := 4
	ring := make([]*walkers, few)
	for i := range ring {
		ring[i] = &walkers{t: t, addr: f.addr}
	}
	askAll := func() {
		var wg sync.WaitGroup
		var wrong, n atomic.Int64
		var all []*walker
		for _, ws := range live {
			all = append(all, ws...)
		}
		for i, w := range ring {
			wg.Go(func() {
				for j := i; j < len(all); j += few {
					n.Add(1)
					if w.get(all[j], "/") != all[j].home {
						wrong.Add(1)
					}
				}
			})
		}
		wg.Wait()
		moved += int(wrong.Load())
		asked += int(n.Load())
	}
	fill := func(slot, home string) {
		total := 0
		for _, ws := range live {
			total += len(ws)
		}
		for ; total < *manySessions; total++ {
			x := &walker{home: home}
			require.Equal(t, home, ring[total%few].get(x, "/"))
			live[slot] = append(live[slot], x)
		}
	}
	fill(slot, home)
	for n := 1; n <= *manyDeploys; n++ {
		slot := names[n%len(names)]
		// The slot that the deploy needs: its sessions end one after the other, and so does the drain.
		left := live[slot]
		drained := make(chan error, 1)
		go func() {
			_, err := abswap.Drain(t.Context(), f, plain(slot), abswap.DrainOptions{Sessions: true, Poll: 2 * time.Millisecond})
			drained <- err
		}()
		for i, x := range left {
			if i%50 == 0 || i == len(left)-1 {
				require.Empty(t, drained, "drained while %d sessions live", len(left)-i)
				require.Equal(t, len(left)-i, sessionsOf(t, f, slot).Sessions)
			}
			require.Equal(t, x.home, ring[i%few].get(x, "/logout"))
		}
		delete(live, slot)
		require.NoError(t, within(t, drained, "the drain, after the last session"))
		require.NoError(t, f.Seal(t.Context(), plain(slot)))
		askAll()
		slot, home := deploy(n)
		askAll()
		fill(slot, home)
		for name, ws := range live {
			require.Equal(t, len(ws), sessionsOf(t, f, name).Sessions, name)
		}
	}
	askAll()
	assert.Zero(t, moved, "of %d requests", asked)
	t.Logf("%d sessions, %d deploys: %d requests of live sessions, %d answered elsewhere", *manySessions, *manyDeploys, asked, moved)
}

// TestD4KillLosesNoSession kills a proxy in which sessions begin all the time, starts the next one, and asks for all of them: each is where it
// began, though the table on the disk lacks some; until one idle time has passed the number is unknown.
func TestD4KillLosesNoSession(t *testing.T) {
	if path := os.Getenv("PROXY_TEST_SESSIONS"); path != "" {
		p, err := proxy.New(killConfig(path, os.Getenv("PROXY_TEST_BLUE"), os.Getenv("PROXY_TEST_GREEN")))
		if err != nil {
			fmt.Println("error", err)
			return
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println(l.Addr())
		fmt.Println(p.Serve(l))
		return
	}
	t.Parallel()
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	path := filepath.Join(t.TempDir(), "state")
	cmd := exec.Command(os.Args[0], "-test.run=^TestD4KillLosesNoSession$", "-test.v=false")
	cmd.Env = append(os.Environ(), "PROXY_TEST_SESSIONS="+path, "PROXY_TEST_BLUE="+address(b.Server), "PROXY_TEST_GREEN="+address(g.Server))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	defer kill()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	addr := lines.Text()
	require.NotContains(t, addr, "error")
	w := &walkers{t: t, addr: addr}
	many := 300
	if testing.Short() {
		many = 100
	}
	all := make([]*walker, many)
	for i := range all {
		all[i] = &walker{}
		w.get(all[i], "/")
		require.NotEmpty(t, all[i].cookie)
	}
	kill()

	f := serve(t, killConfig(path, address(b.Server), address(g.Server)))
	assert.Equal(t, abswap.EvidenceUnknown, sessionsOf(t, f, "blue").Evidence)
	f.activate(t, plain("green"))
	for _, x := range all {
		v := newVisitor(t, f.url)
		v.cookie["abswap-session"] = x.cookie[len("abswap-session="):]
		require.Equal(t, "blue", v.get("/"))
	}
	assert.Equal(t, "green", newVisitor(t, f.url).get("/"))
	l := sessionsOf(t, f, "blue")
	assert.Equal(t, many, l.Sessions)
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence, "never told as few before one idle time has passed")
	soon(t, "one idle time has passed", func() bool { return sessionsOf(t, f, "blue").Evidence == abswap.EvidenceExact })
}

func killConfig(path, blue, green string) proxy.Config {
	return proxy.Config{Slots: map[string]string{"blue": blue, "green": green}, Active: "blue", StateFile: path,
		Sessions: &proxy.SessionConfig{Idle: 8 * time.Second}}
}
