package haproxy_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// sessions says what shall become of a client with a cookie when its slot is turned off.
type sessions int

const (
	noSessions   sessions = iota // there are none
	sessionsStay                 // it stays there until it ends
	sessionsMove                 // its next request goes to the new slot
)

// visits is what clients with sessions felt.
type visits struct {
	sessions, requests atomic.Int64
	stayed             atomic.Int64 // requests that were rightly answered by a slot that was off
	lost, moved, late  atomic.Int64
}

// visitor is a client with a session: it keeps the cookies that it is given, and makes each request on a connection of its own.
type visitor struct {
	client *http.Client
	front  string
	slot   string // in which its session began
}

// newVisitor begins a session by its first request.
func newVisitor(ctx context.Context, front string) (*visitor, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	v := &visitor{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Jar: jar}, front: "http://" + front + "/"}
	v.slot, err = v.ask(ctx)
	return v, err
}

// ask makes one request of the session, which is a POST, since no client sends that twice, and tells which slot has answered.
func (v *visitor) ask(ctx context.Context) (slot string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.front, strings.NewReader("x"))
	if err != nil {
		return "", err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %.100q", resp.Status, text)
	}
	slot, _, _ = strings.Cut(string(text), " ")
	return slot, err
}

// visit is a session from its begin to its end, over some swaps. What begins it goes to the slot that is on. Where sessions stay, all else goes
// where it began, whatever is on by then, and is not late there; where they move, each request is judged as any other.
func (l *load) visit(ctx context.Context, over *atomic.Bool) {
	v := &l.visits
	want := l.want.Load()
	client, err := newVisitor(ctx, l.front)
	v.sessions.Add(1)
	v.requests.Add(1)
	switch {
	case err != nil:
		l.wrong(&v.lost, fmt.Errorf("begin of a session: %w", err))
		return
	case want != nil && want == l.want.Load() && client.slot != *want:
		l.wrong(&v.late, fmt.Errorf("a session began in %q, not in %q", client.slot, *want))
	}
	for range 2 + rand.IntN(10) {
		if over.Load() {
			return
		}
		pause(ctx, time.Duration(rand.IntN(100))*time.Millisecond)
		want := l.want.Load()
		slot, err := client.ask(ctx)
		v.requests.Add(1)
		still := want != nil && want == l.want.Load()
		switch {
		case err != nil:
			l.wrong(&v.lost, fmt.Errorf("a request of a session in %q: %w", client.slot, err))
		case l.sessions == sessionsStay && slot != client.slot:
			l.wrong(&v.moved, fmt.Errorf("a request of a session in %q was answered by %q", client.slot, slot))
		case l.sessions == sessionsStay && still && slot != *want:
			v.stayed.Add(1)
		case l.sessions == sessionsMove && still && slot != *want:
			l.wrong(&v.late, fmt.Errorf("a request of a session was answered by %q, not by %q", slot, *want))
		}
	}
}

// answered asserts which slot answers the next requests of a session.
func answered(t *testing.T, v *visitor, want, why string) {
	t.Helper()
	for range 3 {
		slot, err := v.ask(t.Context())
		require.NoError(t, err, why)
		assert.Equal(t, want, slot, why)
	}
}

func TestSessionsStayWhereTheyBeganUntilTheSlotIsSealed(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	rig, in, err := serversRig(t.Context(), cookieConfig, true)
	require.NoError(t, err)
	defer func() { assert.NoError(t, rig.Close()) }()
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
	old, err := newVisitor(t.Context(), in.front)
	require.NoError(t, err)
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Green))
	fresh, err := newVisitor(t.Context(), in.front)
	require.NoError(t, err)
	assert.Equal(t, []string{"blue", "green"}, []string{old.slot, fresh.slot})
	answered(t, old, "blue", "a session stays")
	answered(t, fresh, "green", "a new one begins in the new slot")
	in.reloaded(t)
	answered(t, old, "blue", "also over a reload")
	answered(t, fresh, "green", "also over a reload")
	l, err := rig.Switcher.(abswap.Drainer).InFlight(t.Context(), rig.Blue)
	require.NoError(t, err)
	assert.Zero(t, l.Total(), "sessions are not counted, as the package says")
	require.NoError(t, rig.Switcher.(abswap.SealingSwitcher).Seal(t.Context(), rig.Blue))
	answered(t, old, "green", "nothing leads to a sealed slot")
}

func TestSessionsMoveWhereTheyAreNotKept(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	rig, in, err := serversRig(t.Context(), cookieConfig, false)
	require.NoError(t, err)
	defer func() { assert.NoError(t, rig.Close()) }()
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
	v, err := newVisitor(t.Context(), in.front)
	require.NoError(t, err)
	assert.Equal(t, "blue", v.slot)
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Green))
	answered(t, v, "green", "at once")
	in.reloaded(t)
	answered(t, v, "green", "also over a reload")
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
	answered(t, v, "blue", "and back")
}
