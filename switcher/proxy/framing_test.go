package proxy_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/internal/framing"
)

// TestFraming sends requests that could be read in two ways, at once and byte by byte, and looks at what comes out at the application.
func TestFraming(t *testing.T) {
	for name, pace := range map[string]framing.Pace{"whole": framing.Whole, "byte by byte": framing.ByteByByte} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			counted := &countingListener{Listener: l}
			up := framing.NewRecorder(counted)
			t.Cleanup(up.Close)
			f := serve(t, proxy.Config{Slots: map[string]string{"blue": up.Addr()}, Active: "blue", DisableHTTP2: true,
				Dial: counted.dial})
			j := &framing.Judge{Address: f.addr, Upstream: up, Dial: func(ctx context.Context) (net.Conn, error) {
				// The application must have seen the end of every connection that was broken off before: it shall not be counted with what comes.
				soon(t, "the application has read all", func() bool { return counted.open() == int64(f.IdleConns("blue")) })
				return new(net.Dialer).DialContext(ctx, "tcp", f.addr)
			}}
			for _, v := range framing.Vectors() {
				if err := j.Check(context.Background(), v, pace); err != nil {
					t.Errorf("%s: %v\n%s\n%.300q", v.Name, err, v.Why, v.Raw)
				}
			}
			require.NoError(t, j.End(context.Background()))
		})
	}
}

// countingListener counts the connections to it, until the one who accepts them has closed them.
type countingListener struct {
	net.Listener
	dialled, closed atomic.Int64
}

func (l *countingListener) open() int64 { return l.dialled.Load() - l.closed.Load() }

// dial connects to the listener. It does not give up with ctx: the system could have made the connection by then, which would be accepted and closed,
// and never counted here.
func (l *countingListener) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(context.WithoutCancel(ctx), network, addr)
	if err == nil {
		l.dialled.Add(1)
	}
	return c, err
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.closed.Add(1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}

// TestFramingOfAnswers has the application answer oddly, and looks at what the client gets, and at whose answers those get who come next. Each
// answer comes in one piece: what an application says unasked while the next request is on its way already nobody can tell from an answer.
func TestFramingOfAnswers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	app := framing.NewApplication(l)
	t.Cleanup(app.Close)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": app.Addr()}, Active: "blue"})
	j := &framing.AnswerJudge{Address: f.addr, App: app}
	for _, v := range framing.AnswerVectors() {
		if err := j.Check(context.Background(), v, framing.Whole); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}
