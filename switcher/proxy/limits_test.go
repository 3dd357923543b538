package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// TestHeadsAreBounded by Config.MaxHead and MaxFields: the last one that fits is answered, the next one is refused.
func TestHeadsAreBounded(t *testing.T) {
	b := newBackend(t, "blue", hello)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", MaxHead: 2000, MaxFields: 10})
	head := func(fields, bytes int) string {
		var h strings.Builder
		h.WriteString("GET / HTTP/1.1\r\nHost: x\r\n")
		for i := range fields - 2 {
			fmt.Fprintf(&h, "A%d: y\r\n", i)
		}
		h.WriteString("Long: " + strings.Repeat("z", bytes-h.Len()-len("Long: \r\n\r\n")) + "\r\n\r\n")
		return h.String()
	}
	for _, tc := range []struct {
		name          string
		fields, bytes int
		want          string
	}{
		{"as much as fits", 10, 2000, "200"},
		{"a byte more", 10, 2001, "431"},
		{"a field more", 11, 1000, "431"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := head(tc.fields, tc.bytes)
			for _, step := range []int{len(text), 700} {
				c := f.raw(t)
				for p := text; p != ""; {
					n := min(step, len(p))
					if _, err := io.WriteString(c.TCPConn, p[:n]); err != nil {
						break // it has been refused
					}
					p = p[n:]
				}
				h := c.head()
				assert.Contains(t, h, "HTTP/1.1 "+tc.want)
				assert.Equal(t, tc.want == "431", strings.Contains(h, "Connection: close"))
			}
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	for i := range 11 {
		r.Header.Add("A", fmt.Sprint(i))
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, w.Code)
}

// TestLimitsThatAreNone is about what New says to them.
func TestLimitsThatAreNone(t *testing.T) {
	_, err := proxy.New(proxy.Config{Slots: map[string]string{"a": "h:1"}, MaxHead: 2 << 20, MaxFields: -1, MaxConns: -1, MaxInFlight: -1})
	for _, want := range []string{"Config.MaxHead: 2097152 is not within 0 (the default) to 1048576", "Config.MaxFields: -1", "Config.MaxConns: -1 is below 0", "Config.MaxInFlight: -1 is below 0"} {
		assert.ErrorContains(t, err, want)
	}
}

// TestSlowloris: heads that come byte by byte, each byte well within any pause, are ended when Config.HeadTimeout has passed over all of them,
// and do not keep others out meanwhile.
func TestSlowloris(t *testing.T) {
	const attackers = 50
	synctest.Test(t, func(t *testing.T) {
		door := newPipeListener()
		p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": ""}, HeadTimeout: 10 * time.Second})
		require.NoError(t, err)
		var all sync.WaitGroup
		all.Go(func() { p.Serve(door) })
		dial := func() net.Conn {
			c, err := door.dial(t.Context(), "", "")
			require.NoError(t, err)
			return c
		}
		for range attackers {
			bad := dial()
			begun := time.Now()
			all.Go(func() {
				defer bad.Close()
				text := "GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("y", 100)
				for i := range text {
					if _, err := io.WriteString(bad, text[i:i+1]); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				assert.InDelta(t, 11*time.Second, time.Since(begun), float64(3*time.Second))
			})
		}
		time.Sleep(5 * time.Second)
		c := dial()
		io.WriteString(c, plainGET)
		h, err := readHead(bufio.NewReader(c))
		require.NoError(t, err)
		assert.Contains(t, h, "503 Service Unavailable", "answered, although no slot takes work")
		c.Close()
		time.Sleep(time.Minute)
		assert.Zero(t, p.Conns())
		require.NoError(t, p.Close())
		all.Wait()
	})
}

// TestConnectionsAreBounded by Config.MaxConns: one more waits, is answered as soon as there is room, and nobody is refused.
func TestConnectionsAreBounded(t *testing.T) {
	b := newBackend(t, "blue", hello)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", MaxConns: 2})
	get := func(c *rawClient) string {
		c.send(plainGET)
		h := c.head()
		assert.Contains(t, h, "200 OK")
		assert.Equal(t, "hello\n", c.read(6))
		return h
	}
	one, two := f.raw(t), f.raw(t)
	assert.NotContains(t, get(one), "Connection: close")
	get(two)
	third := f.raw(t)
	third.send(plainGET)
	soon(t, "one waits for room", f.Crowded)
	assert.EqualValues(t, 2, f.Conns())
	assert.Contains(t, get(one), "Connection: close", "somebody waits")
	assert.Contains(t, third.head(), "200 OK")
	assert.Equal(t, "hello\n", third.read(6))
	assert.NotContains(t, get(two), "Connection: close", "nobody waits any more")
}
