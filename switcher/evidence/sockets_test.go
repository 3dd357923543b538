package evidence_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/sockets"
	"github.com/abswap/abswap/switcher/evidence"
	"github.com/abswap/abswap/switcher/fake"
)

var (
	blue  = fake.NewRunningSlot("blue", "v1")
	green = fake.NewRunningSlot("green", "v2")
)

func conn(local, remote string, state sockets.State, owned bool) sockets.Conn {
	return sockets.Conn{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), State: state, Owned: owned}
}

func TestSocketsCountsWhatTheApplicationHas(t *testing.T) {
	const at, lb = "127.0.0.1:5001", "127.0.0.1:40000"
	listener := conn(at, "0.0.0.0:0", sockets.StateListen, true)
	for name, c := range map[string]struct {
		table []sockets.Conn
		want  int
		how   abswap.Evidence
	}{
		"nobody":                        {[]sockets.Conn{listener}, 0, abswap.EvidenceApproximate},
		"one works":                     {[]sockets.Conn{listener, conn(at, lb, sockets.StateEstablished, true)}, 1, abswap.EvidenceApproximate},
		"one is about to":               {[]sockets.Conn{listener, conn(at, lb, sockets.StateSynReceived, false)}, 1, abswap.EvidenceApproximate},
		"the client has said all":       {[]sockets.Conn{listener, conn(at, lb, sockets.StateCloseWait, true)}, 1, abswap.EvidenceApproximate},
		"the application has said all":  {[]sockets.Conn{listener, conn(at, lb, sockets.StateFinWait, true)}, 1, abswap.EvidenceApproximate},
		"the application has closed":    {[]sockets.Conn{listener, conn(at, lb, sockets.StateFinWait, false)}, 0, abswap.EvidenceApproximate},
		"it is over":                    {[]sockets.Conn{listener, conn(at, lb, sockets.StateOther, false)}, 0, abswap.EvidenceApproximate},
		"the balancer's own end":        {[]sockets.Conn{listener, conn(lb, at, sockets.StateEstablished, true)}, 0, abswap.EvidenceApproximate},
		"another address, same port":    {[]sockets.Conn{listener, conn("10.0.0.1:5001", lb, sockets.StateEstablished, true)}, 0, abswap.EvidenceApproximate},
		"nobody listens":                {nil, 0, abswap.EvidenceUnknown},
		"nobody listens any more":       {[]sockets.Conn{conn(at, lb, sockets.StateEstablished, true)}, 1, abswap.EvidenceUnknown},
		"somebody listens, not there":   {[]sockets.Conn{conn("10.0.0.1:5001", "0.0.0.0:0", sockets.StateListen, true)}, 0, abswap.EvidenceUnknown},
		"listens everywhere, other way": {[]sockets.Conn{conn("[::]:5001", "[::]:0", sockets.StateListen, true), conn("10.0.0.1:5001", lb, sockets.StateEstablished, true)}, 1, abswap.EvidenceApproximate},
	} {
		t.Run(name, func(t *testing.T) {
			d := evidence.WithTable(&evidence.SocketDrainer{Addresses: map[string]string{"blue": at}}, c.table...)
			l, err := d.InFlight(t.Context(), blue)
			require.NoError(t, err)
			assert.Equal(t, c.want, l.Total())
			assert.Equal(t, c.how, l.Evidence, l.Source)
		})
	}
}

func TestSocketsOutgoing(t *testing.T) {
	const at = "10.0.0.9:5001"
	d := evidence.WithTable(&evidence.SocketDrainer{Addresses: map[string]string{"blue": at}, Outgoing: true},
		conn("10.0.0.1:4000", at, sockets.StateEstablished, true), conn("10.0.0.1:4001", at, sockets.StateSynSent, true),
		conn("10.0.0.1:4002", at, sockets.StateFinWait, false), conn("10.0.0.1:4003", "10.0.0.8:5001", sockets.StateEstablished, true))
	l, err := d.InFlight(t.Context(), blue)
	require.NoError(t, err)
	assert.Equal(t, 2, l.Requests)
	assert.Equal(t, abswap.EvidenceApproximate, l.Evidence)
}

func TestSocketsRefuses(t *testing.T) {
	d := &evidence.SocketDrainer{Addresses: map[string]string{"blue": "localhost:5001"}}
	_, err := d.InFlight(t.Context(), green)
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	_, err = d.InFlight(t.Context(), nil)
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	_, err = d.InFlight(t.Context(), blue)
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.InFlight(over, blue)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestSocketsCheckTellsAllAtOnce(t *testing.T) {
	req := abswap.CheckRequest{Slots: []abswap.Slot{blue, green}}
	d := &evidence.SocketDrainer{Addresses: map[string]string{"blue": "nowhere"}}
	assert.Len(t, multi.All(d.Check(t.Context(), req)), 2)
	d = &evidence.SocketDrainer{Addresses: map[string]string{"blue": "127.0.0.1:5001", "green": "[::ffff:127.0.0.1]:5001"}}
	assert.ErrorContains(t, d.Check(t.Context(), req), "one address")
	d = &evidence.SocketDrainer{Addresses: map[string]string{"blue": "0.0.0.0:5001", "green": "[::]:5002"}, Outgoing: true}
	assert.Len(t, multi.All(d.Check(t.Context(), req)), 2)
}

// TestSocketsDrain waits on real sockets until the last client has gone.
func TestSocketsDrain(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d := &evidence.SocketDrainer{Addresses: map[string]string{"blue": l.Addr().String()}}
	if err := d.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue}}); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system does not tell its sockets")
	}
	client, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()

	readings := 0
	opts := abswap.DrainOptions{Timeout: 2 * time.Minute, Poll: time.Millisecond, Quiet: 20 * time.Millisecond}
	opts.OnLoad = func(l abswap.Load) {
		readings++
		switch {
		case readings <= 3:
			assert.Equal(t, 1, l.Requests, "the connection is open")
		case readings == 4: // both ends close; the server's after the client's, as one that reads to the end does
			assert.NoError(t, client.Close())
			assert.NoError(t, server.Close())
		}
	}
	res, err := abswap.Drain(t.Context(), d, blue, opts)
	require.NoError(t, err)
	assert.True(t, res.Drained)
	assert.Equal(t, 1, res.First.Requests)
	assert.Equal(t, abswap.EvidenceApproximate, res.Last.Evidence)
}

func FuzzAddress(f *testing.F) {
	for _, text := range []string{"127.0.0.1:5001", "[::1]:5001", "[::ffff:127.0.0.1]:5001", "[fe80::1%eth0]:80", "localhost:80", "127.0.0.1:0", ":80", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := evidence.ParseAddress(text)
		if err != nil {
			return
		}
		assert.True(t, a.IsValid() && a.Port() != 0 && a.Addr().Zone() == "" && !a.Addr().Is4In6(), a)
		again, err := evidence.ParseAddress(a.String())
		assert.NoError(t, err)
		assert.Equal(t, a, again)
	})
}
