package haproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// tcpGlobal is global for connections that are not HTTP.
const tcpGlobal = `global
    nbthread 2
    stats socket DIR/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 2m
    hard-stop-after 120s
defaults
    mode tcp
    timeout connect 5s
    timeout client 120s
    timeout server 120s
`

const tcpMapConfig = tcpGlobal + `
frontend fe
    bind FRONT
    use_backend %[str(mysite),map(DIR/slots.map)]
backend be_blue
    server one TCPBLUE
backend be_green
    server one TCPGREEN
backend be_other
    server one TCPBLUE
`

const tcpServersConfig = tcpGlobal + `
frontend fe
    bind FRONT
    default_backend be_site
backend be_site
    load-server-state-from-file local
    server-state-file-name DIR/be_site.state
    server blue TCPBLUE
    server green TCPGREEN
`

// echo is an application that is not HTTP: it says its name, and then all that it is told, until the client has said all.
type echo struct {
	l  net.Listener
	wg sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // nil: closed
}

func newEcho(name string) (*echo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echo{l: l, open: map[net.Conn]bool{}}
	e.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() { e.serve(conn, name) })
		}
	})
	return e, nil
}

func (e *echo) serve(conn net.Conn, name string) {
	defer conn.Close()
	e.mu.Lock()
	closed := e.open == nil
	if !closed {
		e.open[conn] = true
	}
	e.mu.Unlock()
	if closed {
		return
	}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, conn)
	}()
	if _, err := io.WriteString(conn, name+"\n"); err == nil {
		_, _ = io.Copy(struct{ io.Writer }{conn}, conn)
	}
}

func (e *echo) close() {
	_ = e.l.Close()
	e.mu.Lock()
	for conn := range e.open {
		_ = conn.Close()
	}
	e.open = nil
	e.mu.Unlock()
	e.wg.Wait()
}

// talk is a client's connection.
type talk struct {
	conn net.Conn
	r    *bufio.Reader
	slot string
}

// newTalk connects and hears which slot it has.
func newTalk(ctx context.Context, front string) (*talk, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", front)
	if err != nil {
		return nil, err
	}
	t := &talk{conn: conn, r: bufio.NewReader(conn)}
	t.slot, err = t.hear()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return t, nil
}

func (t *talk) hear() (string, error) {
	if err := t.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	text, err := t.r.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}

// say sends a word and hears it again.
func (t *talk) say(context.Context) error {
	const word = "how do you do"
	if _, err := io.WriteString(t.conn, word+"\n"); err != nil {
		return err
	}
	if heard, err := t.hear(); err != nil || heard != word {
		return fmt.Errorf("%q came back as %q: %w", word, heard, err)
	}
	return nil
}

// end says all, hears the rest and closes.
func (t *talk) end(ctx context.Context) error {
	defer t.conn.Close()
	if err := t.say(ctx); err != nil {
		return err
	}
	if err := t.conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if rest, err := t.hear(); rest != "" || err != io.EOF {
		return fmt.Errorf("at the end came %q: %w", rest, err)
	}
	return nil
}

// tcpRig is either form on a real HAProxy in mode tcp.
func tcpRig(ctx context.Context, byMap bool) (rig switchertest.Rig, in *instance, err error) {
	var apps []*echo
	closeAll := func() error {
		for _, app := range apps {
			app.close()
		}
		if in == nil {
			return nil
		}
		return in.close()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	config := tcpServersConfig
	if byMap {
		config = tcpMapConfig
	}
	for _, slot := range []string{"blue", "green"} {
		app, err := newEcho(slot)
		if err != nil {
			return rig, nil, err
		}
		apps = append(apps, app)
		config = strings.ReplaceAll(config, "TCP"+strings.ToUpper(slot), app.l.Addr().String())
	}
	if in, err = start(ctx, config, true); err != nil {
		in = nil // start has closed it
		return rig, nil, err
	}
	rig.Blue, rig.Green = slots()
	if byMap {
		rig.Switcher, err = haproxy.NewMap(haproxy.MapConfig{Runtime: in.runtime(true), File: in.path("slots.map"), Key: "mysite", TCP: true,
			Backends: map[string]string{"blue": "be_blue", "green": "be_green"}})
	} else {
		rig.Switcher, err = haproxy.NewServers(haproxy.ServersConfig{Runtime: in.runtime(true), Backend: "be_site", TCP: true, StateFile: in.path("be_site.state"),
			Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}}})
	}
	if err != nil {
		return rig, nil, err
	}
	front := in.front
	rig.Probe = func(ctx context.Context) (string, error) {
		t, err := newTalk(ctx, front)
		if err != nil {
			return "", err
		}
		return t.slot, t.end(ctx)
	}
	rig.Begin = func(ctx context.Context, _ switchertest.Kind) (switchertest.Work, error) {
		t, err := newTalk(ctx, front)
		if err != nil {
			return switchertest.Work{}, err
		}
		return switchertest.Work{Slot: t.slot, Step: t.say, End: t.end, Abort: func() { _ = t.conn.Close() }}, nil
	}
	rig.Close = closeAll
	return rig, in, nil
}

// In mode tcp a connection stays where it began, be it for hours and over reloads, and counts there; new ones go to the new slot.
func TestConnectionsInModeTCP(t *testing.T) {
	for name, byMap := range map[string]bool{"map": true, "servers": false} {
		t.Run(name, func(t *testing.T) {
			needHAProxy(t)
			t.Parallel()
			rig, in, err := tcpRig(t.Context(), byMap)
			require.NoError(t, err)
			defer func() { assert.NoError(t, rig.Close()) }()
			d := rig.Switcher.(abswap.ForcingDrainer)
			holds := func(slot abswap.Slot, n int) {
				t.Helper()
				var l abswap.Load
				require.Eventually(t, func() bool { // HAProxy hears of an end a moment after the client
					l, err = d.InFlight(t.Context(), slot)
					return err == nil && l.Requests == n
				}, 20*time.Second, 5*time.Millisecond, "slot %q should have %d: %+v, %v", slot.Name(), n, l, err)
				assert.Equal(t, abswap.EvidenceExact, l.Evidence)
				assert.Zero(t, l.Upgraded)
			}
			traits, _ := abswap.As[abswap.TraitsSwitcher](rig.Switcher)
			assert.True(t, traits.Traits().PerConnection)
			require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
			mistakes, _ := findings(rig.Switcher.(abswap.Checker).Check(t.Context(), request()))
			assert.Empty(t, mistakes)

			long, err := newTalk(t.Context(), in.front)
			require.NoError(t, err)
			defer long.conn.Close()
			stubborn, err := newTalk(t.Context(), in.front)
			require.NoError(t, err)
			defer stubborn.conn.Close()
			assert.Equal(t, []string{"blue", "blue"}, []string{long.slot, stubborn.slot})
			holds(rig.Blue, 2)
			require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Green))
			fresh, err := newTalk(t.Context(), in.front)
			require.NoError(t, err)
			defer fresh.conn.Close()
			assert.Equal(t, "green", fresh.slot)
			holds(rig.Blue, 2)
			holds(rig.Green, 1)
			in.reloaded(t)
			for _, c := range []*talk{long, stubborn, fresh} {
				assert.NoError(t, c.say(t.Context()), "in the old worker")
			}
			holds(rig.Blue, 2)
			holds(rig.Green, 1)
			list, err := rig.Switcher.(abswap.ListingDrainer).List(t.Context(), rig.Blue, 10)
			require.NoError(t, err)
			require.Len(t, list, 2)
			assert.Equal(t, "request", list[0].Kind)
			assert.Equal(t, long.conn.LocalAddr().String(), list[0].Peer, "the oldest comes first")

			idle := make(chan error, 1)
			go func() { idle <- rig.Switcher.(abswap.WaitingDrainer).WaitIdle(t.Context(), rig.Blue) }()
			require.NoError(t, long.end(t.Context()))
			holds(rig.Blue, 1)
			require.NoError(t, d.Force(t.Context(), rig.Blue, abswap.ForceHandOver))
			assert.NoError(t, stubborn.say(t.Context()), "nobody can ask a connection to go")
			require.NoError(t, d.Force(t.Context(), rig.Blue, abswap.ForceCut))
			require.NoError(t, <-idle)
			assert.Error(t, stubborn.say(t.Context()), "it was cut")
			assert.NoError(t, fresh.end(t.Context()), "and the other was not")
			holds(rig.Blue, 0)
			holds(rig.Green, 0)
		})
	}
}
