package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

const upgradeHead = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"

// upgrader answers an upgrade with 101 and first in one piece, then hands the connection to talk.
func upgrader(first string, talk func(c *net.TCPConn, br *bufio.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Connection") != "Upgrade" {
			http.Error(w, "no upgrade asked for", http.StatusUpgradeRequired)
			return
		}
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-App: 1\r\nKeep-Alive: 5\r\n\r\n"+first)
		talk(c.(*net.TCPConn), brw.Reader)
	}
}

func echo(c *net.TCPConn, br *bufio.Reader) {
	b := make([]byte, 100)
	for {
		n, err := br.Read(b)
		c.Write(b[:n])
		if err != nil {
			return
		}
	}
}

// TestC4FirstBytesAreNotLost has the application send its first frame in one piece with the 101, and the client its own behind its head.
func TestC4FirstBytesAreNotLost(t *testing.T) {
	f, _, _ := pair(t, upgrader("first", echo), hello)
	c := f.raw(t)
	c.send(upgradeHead + "early")
	h := c.head()
	assert.True(t, strings.HasPrefix(h, "HTTP/1.1 101 "), h)
	assert.Contains(t, h, "X-App: 1\r\n")
	assert.Contains(t, h, "Upgrade: websocket\r\n")
	assert.NotContains(t, h, "Keep-Alive")
	assert.Equal(t, "firstearly", c.read(10))
	assert.Equal(t, abswap.Load{Upgraded: 1, Evidence: abswap.EvidenceExact, Source: "proxy counters"}, f.load(t, "blue"))
	big := strings.Repeat("0123456789", 20_000)
	go io.WriteString(c.TCPConn, big)
	assert.Equal(t, big, c.read(len(big)))
	list, err := f.List(t.Context(), plain("blue"), 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "upgraded", list[0].Kind)
	assert.Equal(t, "/ws", list[0].Path)
	assert.EqualValues(t, len(big)+5, list[0].In)
	c.CloseWrite()
	assert.Empty(t, c.rest())
	f.idle(t, "blue")
}

// TestC5ConnectionIsReadByToken finds the upgrade wherever it stands among the options, in any case, in any of several fields.
func TestC5ConnectionIsReadByToken(t *testing.T) {
	f, _, _ := pair(t, upgrader("ok", echo), hello)
	for _, connection := range []string{
		"Connection: Upgrade", "Connection: upgrade", "Connection: keep-alive, Upgrade", "Connection: UPGRADE , keep-alive",
		"Connection: keep-alive\r\nConnection: Upgrade",
	} {
		c := f.raw(t)
		c.send("GET / HTTP/1.1\r\nHost: x\r\n" + connection + "\r\nUpgrade: WebSocket\r\n\r\n")
		h := c.head()
		assert.True(t, strings.HasPrefix(h, "HTTP/1.1 101 "), "%s: %s", connection, h)
		assert.Equal(t, "ok", c.read(2))
		c.Close()
	}
	for _, fields := range []string{"Connection: Upgrades\r\nUpgrade: websocket", "Upgrade: websocket", "Connection: Upgrade"} {
		c := f.raw(t)
		c.send("GET / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n\r\n")
		assert.Contains(t, c.head(), "426 ", fields)
	}
	c := f.raw(t)
	c.send("GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	assert.Contains(t, c.head(), "426 ", "HTTP/1.0 has no upgrade")
	f.idle(t, "blue")
}

// TestC6HalvesCloseByThemselves ends one direction and goes on in the other, both ways round.
func TestC6HalvesCloseByThemselves(t *testing.T) {
	t.Run("client first", func(t *testing.T) {
		f, _, _ := pair(t, upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
			b, _ := io.ReadAll(br) // to the client's end
			fmt.Fprintf(c, "got %s", b)
		}), hello)
		c := f.raw(t)
		c.send(upgradeHead)
		c.head()
		c.send("all")
		c.CloseWrite()
		assert.Equal(t, "got all", c.rest())
		f.idle(t, "blue")
	})
	t.Run("slot first", func(t *testing.T) {
		got := make(chan string, 1)
		f, _, _ := pair(t, upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
			io.WriteString(c, "bye")
			c.CloseWrite()
			b, _ := io.ReadAll(br)
			got <- string(b)
		}), hello)
		c := f.raw(t)
		c.send(upgradeHead)
		c.head()
		assert.Equal(t, "bye", c.rest())
		assert.Equal(t, 1, f.load(t, "blue").Upgraded, "one direction lives")
		c.send("last words")
		c.CloseWrite()
		assert.Equal(t, "last words", within(t, got, "slot"))
		f.idle(t, "blue")
	})
	t.Run("reset", func(t *testing.T) {
		ended := make(chan bool, 1)
		f, _, _ := pair(t, upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
			io.Copy(io.Discard, br)
			ended <- true
		}), hello)
		c := f.raw(t)
		c.send(upgradeHead)
		c.head()
		c.SetLinger(0)
		c.Close()
		within(t, ended, "the slot told")
		f.idle(t, "blue")
	})
}

// TestLastWordsGetThrough has the slot say its last word and close while the client is still sending.
func TestLastWordsGetThrough(t *testing.T) {
	f, _, _ := pair(t, upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
		io.ReadFull(br, make([]byte, 10_000))
		io.WriteString(c, "last word")
	}), hello)
	for range 20 {
		c := f.raw(t)
		c.send(upgradeHead)
		c.head()
		go c.Write(make([]byte, 1<<20))
		b := make([]byte, 9)
		_, err := io.ReadFull(c.br, b)
		if assert.NoError(t, err) {
			assert.Equal(t, "last word", string(b))
		}
		c.Close()
	}
	f.idle(t, "blue")
}

// TestRefusedUpgradeIsAnAnswer lets the application answer an upgrade otherwise; the connection carries the next request.
func TestRefusedUpgradeIsAnAnswer(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	c := f.raw(t)
	c.send(upgradeHead)
	assert.Contains(t, c.head(), "200 OK")
	assert.Equal(t, "hello\n", c.read(6))
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, c.head(), "200 OK")
	f.idle(t, "blue")
}

// TestCutTunnelsAreCounted in Stats, as all that ForceCut ends; one that has ended by itself is not.
func TestCutTunnelsAreCounted(t *testing.T) {
	f, _, _ := pair(t, upgrader("first", echo), hello)
	for _, cut := range []bool{false, true} {
		c := f.raw(t)
		c.send(upgradeHead)
		require.Contains(t, c.head(), "101 ")
		require.Equal(t, "first", c.read(5))
		if cut {
			require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
		} else {
			c.CloseWrite()
			assert.Empty(t, c.rest())
		}
		f.idle(t, "blue")
		want := proxy.Stats{}
		if cut {
			want.Cut = 1
		}
		soon(t, "it is counted", func() bool { return f.Stats() == want })
	}
}

// written counts how often something is written to a connection. It is none that package h1 reads by its own means, on any system.
type written struct {
	net.Conn
	times *atomic.Int64
}

func (w written) Write(p []byte) (int, error) {
	w.times.Add(1)
	return w.Conn.Write(p)
}

// writtenListener counts for all connections that it accepts.
type writtenListener struct {
	net.Listener
	times *atomic.Int64
}

func (l writtenListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return written{c, l.times}, nil
}

// TestTunnelsCarryPieces: what comes through a connection that the data path reads by its methods alone, as one over TLS, or each of Windows,
// goes on in pieces of the size in which it comes, not byte by byte.
func TestTunnelsCarryPieces(t *testing.T) {
	const size, most = 64 << 10, 32
	for _, overTLS := range []bool{true, false} {
		t.Run(fmt.Sprint("tls ", overTLS), func(t *testing.T) {
			b := newBackend(t, "blue", upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
				all := make([]byte, size)
				io.ReadFull(br, all)
				c.Write(all)
			}))
			var up, down atomic.Int64
			p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue",
				Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, addr)
					return written{c, &up}, err
				}})
			require.NoError(t, err)
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			addr := tcp.Addr().String()
			var l net.Listener = writtenListener{tcp, &down}
			dial := func() (net.Conn, error) { return net.Dial("tcp", addr) }
			if overTLS {
				cert, pool := loopbackCertificate(t)
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
				dial = func() (net.Conn, error) {
					return tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, DynamicRecordSizingDisabled: true})
				}
			}
			ended := make(chan error, 1)
			go func() { ended <- p.Serve(l) }()
			defer func() {
				p.Close()
				assert.ErrorIs(t, <-ended, http.ErrServerClosed)
			}()
			c, err := dial()
			require.NoError(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			br := bufio.NewReader(c)
			io.WriteString(c, upgradeHead)
			_, err = readHead(br)
			require.NoError(t, err)
			up.Store(0)
			down.Store(0)
			said := strings.Repeat("0123456789abcdef", size/16)
			_, err = io.WriteString(c, said)
			require.NoError(t, err)
			got := make([]byte, size)
			_, err = io.ReadFull(br, got)
			require.NoError(t, err)
			assert.True(t, said == string(got))
			assert.LessOrEqual(t, up.Load(), int64(most), "to the slot")
			assert.LessOrEqual(t, down.Load(), int64(most), "to the client")
		})
	}
}
