package tcp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// opaque is a connection that has halves, but that the system cannot be asked about: as TLS, and as everything on Windows.
type opaque struct{ c *net.TCPConn }

func (o opaque) Read(p []byte) (int, error)         { return o.c.Read(p) }
func (o opaque) Write(p []byte) (int, error)        { return o.c.Write(p) }
func (o opaque) Close() error                       { return o.c.Close() }
func (o opaque) CloseWrite() error                  { return o.c.CloseWrite() }
func (o opaque) SetLinger(n int) error              { return o.c.SetLinger(n) }
func (o opaque) LocalAddr() net.Addr                { return o.c.LocalAddr() }
func (o opaque) RemoteAddr() net.Addr               { return o.c.RemoteAddr() }
func (o opaque) SetDeadline(t time.Time) error      { return o.c.SetDeadline(t) }
func (o opaque) SetReadDeadline(t time.Time) error  { return o.c.SetReadDeadline(t) }
func (o opaque) SetWriteDeadline(t time.Time) error { return o.c.SetWriteDeadline(t) }

type opaqueListener struct{ net.Listener }

func (l opaqueListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return opaque{c.(*net.TCPConn)}, nil
}

func dialOpaque(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return opaque{c.(*net.TCPConn)}, nil
}

func TestConnectionsThatTheSystemCannotBeAskedAbout(t *testing.T) {
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue", Dial: dialOpaque})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(opaqueListener{l}) })
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		serving.Wait()
	})
	d := &door{s, l.Addr().String()}

	c := dial(t, d.addr)
	require.Equal(t, "blue", c.line())
	for _, size := range []int{1, 4 << 10, 9 << 10, 60 << 10, 10, 60 << 10} { // through buffers of both sizes and back
		line := string(bytes.Repeat([]byte("x"), size))
		go c.say(line)
		require.Equal(t, line, c.line())
	}
	require.NoError(t, c.CloseWrite())
	assert.Equal(t, "goodbye from blue", c.line())
	assert.NoError(t, c.end())
	d.idle(t, "blue")

	c = dial(t, d.addr)
	require.Equal(t, "blue", c.line())
	require.NoError(t, d.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Error(t, c.end(), "cut, and seen to be")
	d.idle(t, "blue")
}

func TestTLSThatEndsAtTheDoor(t *testing.T) {
	data := make([]byte, 3<<20)
	rand.Read(data)
	want := sha256.Sum256(data)
	addr := listen(t, func(c *net.TCPConn) {
		h := sha256.New()
		io.Copy(h, c)
		c.Write(h.Sum(nil))
		c.Write(data)
	})
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": addr}, Active: "blue"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "door.test")}}))
	})
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		serving.Wait()
	})
	c := tls.Client(dial(t, l.Addr().String()), &tls.Config{InsecureSkipVerify: true})
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	sum := make([]byte, len(want))
	_, err = io.ReadFull(c, sum)
	require.NoError(t, err)
	assert.Equal(t, want[:], sum)
	back, err := io.ReadAll(c)
	require.NoError(t, err, "a proper end")
	assert.Equal(t, want, sha256.Sum256(back))
}

// unshaken is a connection of TLS as far as its ends go: before the handshake it cannot say that it writes no more.
type unshaken struct {
	net.Conn
	shaken, ended chan struct{}
}

func (c *unshaken) Handshake() error {
	<-c.shaken
	return nil
}

func (c *unshaken) CloseWrite() error {
	select {
	case <-c.shaken:
		close(c.ended)
		return nil
	default:
		return errors.New("CloseWrite called before handshake complete") // as package crypto/tls says it
	}
}

// TestAnEndBeforeTheHandshake: an application ends a connection at once, before its client's handshake with the door has come to its end. The
// client hears of the end behind it.
func TestAnEndBeforeTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, door := net.Pipe()
		slot, app := net.Pipe()
		app.Close()
		s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue",
			Dial: func(context.Context, string, string) (net.Conn, error) { return slot, nil }})
		require.NoError(t, err)
		defer s.Close()
		client := &unshaken{door, make(chan struct{}), make(chan struct{})}
		var serving sync.WaitGroup
		serving.Go(func() { s.ServeConn(client) })
		synctest.Wait() // the end is there
		close(client.shaken)
		select {
		case <-client.ended:
		case <-time.After(time.Hour):
			assert.Fail(t, "the client waits for ever")
		}
		here.Close()
		serving.Wait()
	})
}

func TestAConnectionWithoutHalvesEndsAsAWhole(t *testing.T) {
	here, door := net.Pipe()
	slot, app := net.Pipe()
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue",
		Dial: func(context.Context, string, string) (net.Conn, error) { return slot, nil }})
	require.NoError(t, err)
	defer s.Close()
	ended := make(chan struct{})
	go func() {
		s.ServeConn(door)
		close(ended)
	}()
	go fmt.Fprint(here, "hello")
	got := make([]byte, 5)
	_, err = io.ReadFull(app, got)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
	app.Close()
	_, err = here.Read(got)
	assert.ErrorIs(t, err, io.EOF)
	<-ended
	assert.EqualValues(t, 1, s.Stats().Carried)
}
