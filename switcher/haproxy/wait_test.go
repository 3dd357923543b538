package haproxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// waiting is an HAProxy in which the server blue has one request until the time end. It answers a wait after a while by how, once known.
type waiting struct {
	end          time.Time
	wait         func(limit time.Duration) string
	asked, waits int
}

func (w *waiting) busy() bool { return time.Now().Before(w.end) }

// runtime is a socket that answers each command on a connection of its own. It is for bubbles.
func (w *waiting) runtime(t *testing.T) haproxy.Runtime {
	return haproxy.Runtime{Stats: "scripted:1", Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			buf := make([]byte, 4096)
			n, err := theirs.Read(buf)
			if err != nil {
				return
			}
			_, _ = io.WriteString(theirs, w.answer(t, strings.TrimSuffix(string(buf[:n]), "\n")))
		}()
		return ours, nil
	}}
}

func (w *waiting) answer(t *testing.T, command string) string {
	n := 0
	if w.busy() {
		n = 1
	}
	switch {
	case strings.HasPrefix(command, "show stat "):
		w.asked++
		return fmt.Sprintf("# pxname,svname,qcur,scur,status,\nbe_site,blue,0,%[1]d,UP,\nbe_site,green,0,0,UP,\nbe_site,BACKEND,0,%[1]d,UP,\n\n", n)
	case strings.HasPrefix(command, "wait "):
		w.waits++
		var limit time.Duration
		var server string
		_, err := fmt.Sscanf(strings.ReplaceAll(command, "ms ", " "), "wait %d srv-removable %s", &limit, &server)
		assert.NoError(t, err, command)
		assert.Equal(t, "be_site/blue", server)
		return w.wait(limit*time.Millisecond) + "\n\n"
	case command == "show fd 0", command == "show info":
		return "CurrConns: 5000\n\n"
	}
	return "Unknown command.\n\n"
}

func serversOn(t *testing.T, rt haproxy.Runtime) *haproxy.ServerSwitcher {
	t.Helper()
	sw, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: rt, Backend: "be_site", Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}}})
	require.NoError(t, err)
	return sw
}

// The sentences are those of HAProxy 3.0.11: "Done." and "Wait delay expired." for a server in maintenance, "Failed." for one that is not,
// "Interrupted." behind the master's socket. That of 2.6 is "Unknown command".
func TestWaitIdleIsToldByAnHAProxyThatCan(t *testing.T) {
	for name, c := range map[string]struct {
		wait func(w *waiting, limit time.Duration) string
		told bool
	}{
		"in maintenance": {func(w *waiting, limit time.Duration) string {
			if left := time.Until(w.end); left > limit {
				time.Sleep(limit)
				return "Wait delay expired."
			} else if left > 0 {
				time.Sleep(left)
			}
			return "Done."
		}, true},
		"on":              {func(*waiting, time.Duration) string { return "Failed." }, false},
		"by the master":   {func(*waiting, time.Duration) string { return "Interrupted." }, false},
		"before 3.0":      {func(*waiting, time.Duration) string { return "Unknown command: 'wait'" }, false},
		"too short":       {func(*waiting, time.Duration) string { return "Invalid duration." }, false},
		"done, it is not": {func(*waiting, time.Duration) string { return "Done." }, false},
		"nothing at all":  {func(*waiting, time.Duration) string { return "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasts = 30*time.Second + 123456*time.Microsecond
				w := &waiting{end: time.Now().Add(lasts)}
				w.wait = func(limit time.Duration) string { return c.wait(w, limit) }
				sw, began := serversOn(t, w.runtime(t)), time.Now()
				blue, _ := slots()
				require.NoError(t, sw.WaitIdle(t.Context(), blue))
				took := time.Since(began)
				assert.GreaterOrEqual(t, took, lasts)
				assert.Positive(t, w.waits)
				if c.told {
					assert.Equal(t, lasts, took, "it is told at once")
					assert.Less(t, w.asked, 40, "and hardly asked")
					return
				}
				assert.Less(t, took, lasts+100*time.Millisecond)
				assert.Greater(t, w.asked, 300, "it is asked")
				assert.Less(t, w.asked, 5000, "but not all the time")
			})
		})
	}
}

// Behind the master's socket a wait would hold one of the few connections that it takes, and ends at once.
func TestWaitIdleDoesNotWaitBehindTheMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const proc = "#<PID> <type> <reloads> <uptime> <version>\n1 master 0 [failed: 0] 0d00h00m01s 3.0.11\n# workers\n7 worker 0 0d00h00m01s 3.0.11\n\n"
		w := &waiting{end: time.Now().Add(time.Second), wait: func(time.Duration) string { return "Interrupted." }}
		rt := haproxy.Runtime{Master: "scripted:1", Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				buf := make([]byte, 4096)
				n, _ := theirs.Read(buf)
				command := strings.TrimSuffix(string(buf[:n]), "\n")
				text := proc
				if inner, ok := strings.CutPrefix(command, "@!7 "); ok {
					text = w.answer(t, inner)
				}
				_, _ = io.WriteString(theirs, text)
			}()
			return ours, nil
		}}
		blue, _ := slots()
		require.NoError(t, serversOn(t, rt).WaitIdle(t.Context(), blue))
		assert.Zero(t, w.waits)
		assert.Positive(t, w.asked)
	})
}

func TestWaitIdleEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &waiting{end: time.Now().Add(time.Hour), wait: func(limit time.Duration) string { time.Sleep(limit); return "Wait delay expired." }}
		sw, began := serversOn(t, w.runtime(t)), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		blue, _ := slots()
		assert.ErrorIs(t, sw.WaitIdle(ctx, blue), context.DeadlineExceeded)
		assert.Equal(t, 1500*time.Millisecond, time.Since(began))
		time.Sleep(time.Second) // the bubble's: the other end of what was left has come to its end
	})
}

// TestWaitIdleOnServersInMaintenance is the same on the HAProxy of this machine, whatever its version is: one process, whose old slot is put
// into maintenance, since cookies bind clients.
func TestWaitIdleOnServersInMaintenance(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	in, err := start(t.Context(), cookieConfig, false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.close()) })
	var waits atomic.Int64
	rt := in.runtime(false)
	rt.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &listened{conn.(*net.UnixConn), &waits}, nil
	}
	sw := serversOn(t, rt)
	blue, green := slots()
	rig := in.site.Rig()
	require.NoError(t, sw.Activate(t.Context(), blue))
	work, err := rig.Begin(t.Context(), switchertest.KindUpload)
	require.NoError(t, err)
	defer work.Abort()
	require.Equal(t, "blue", work.Slot)
	require.NoError(t, sw.Activate(t.Context(), green))
	ctx, cancel := context.WithTimeout(t.Context(), 1300*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, sw.WaitIdle(ctx, blue), context.DeadlineExceeded, "the upload is still there")
	l, err := sw.InFlight(t.Context(), blue)
	require.NoError(t, err)
	assert.Equal(t, abswap.Load{Requests: 1, Evidence: abswap.EvidenceExact, Source: "haproxy counters of 1 worker(s)"}, l)
	idle := make(chan error, 1)
	go func() { idle <- sw.WaitIdle(t.Context(), blue) }()
	require.NoError(t, work.Step(t.Context()))
	require.NoError(t, work.End(t.Context()))
	require.NoError(t, <-idle)
	assert.Positive(t, waits.Load())
	version, err := in.say("show info")
	require.NoError(t, err)
	t.Logf("%s: %d commands waited", line(version, "Version: "), waits.Load())
	if major, _, _ := strings.Cut(line(version, "Version: "), "."); major == "1" || major == "2" {
		assert.LessOrEqual(t, waits.Load(), int64(2), "it does not know the command: it is sent once in each call")
	}
}

// listened counts the wait commands that are sent.
type listened struct {
	*net.UnixConn
	waits *atomic.Int64
}

func (l *listened) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "wait ") {
		l.waits.Add(1)
	}
	return l.UnixConn.Write(p)
}

// line is the rest of the line that begins so.
func line(text, begin string) string {
	for l := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(l, begin); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
