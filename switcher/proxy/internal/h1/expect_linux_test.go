//go:build amd64 || arm64

package h1

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// attempting is a Front that gives every request to one generation.
type attempting struct {
	refusing
	table *route.Table[*Pool]
}

func (a attempting) Forward(x *Exchange) {
	gen := a.table.Enter(x.Work(), nil)
	defer x.Work().Leave()
	how, _ := x.Attempt(gen, false)
	x.End(how)
}

// hasty is a connection on which the time for reading has run out as soon as it is set: its goroutine did not run for so long.
type hasty struct{ descriptor }

func (h hasty) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		t = past
	}
	return h.descriptor.SetReadDeadline(t)
}

// The body of a request with "Expect: 100-continue" goes to the slot behind the head, also where the time in which the slot may ask for it has run
// out before the head was sent: a body alone would be read as a request.
func TestHeadGoesFirstWhereTheTimeForA100HasRunOut(t *testing.T) {
	slot := listen(t, "127.0.0.1:0")
	cfg := NewPoolConfig(PoolConfig{Dial: func(context.Context, string, string) (net.Conn, error) {
		c := newLoopback(slot.Addr().String()).dial().(*loopConn)
		c.descriptor = hasty{c.descriptor}
		return c, nil
	}})
	table := route.New[*Pool]("blue")
	gen := table.Generation(route.Key{Slot: "blue"}, func() *Pool { return NewPool(cfg, Life{Addr: slot.Addr().String()}, "") })
	table.Set(route.Part[*Pool]{Gen: gen, Part: 100})
	s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, attempting{table: table})
	defer s.Close()
	door := listen(t, "127.0.0.1:0")
	client, err := net.Dial("tcp", door.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	nc, err := door.Accept()
	require.NoError(t, err)
	s.add(nc)

	client.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(client, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
	require.NoError(t, err)
	far, err := slot.Accept()
	require.NoError(t, err)
	defer far.Close()
	far.SetDeadline(time.Now().Add(20 * time.Second))
	first := make([]byte, 4)
	_, err = io.ReadFull(far, first)
	require.NoError(t, err)
	assert.Equal(t, "PUT ", string(first))
}
