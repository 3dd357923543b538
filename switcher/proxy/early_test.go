package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// What happens when an answer is complete, or never will be, while the client is still sending.

// answerAtOnce answers a request whole when it has its head, and then reads on.
func answerAtOnce(c net.Conn, br *bufio.Reader) {
	readHead(br)
	io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
	io.Copy(io.Discard, br)
}

// TestUploadGoesOnAfterItsAnswer sends on for a long time after the answer is complete; standing still ends it after a few seconds, since
// the slot has said all that it will.
func TestUploadGoesOnAfterItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, door := newPipeListener(), newPipeListener()
		var all sync.WaitGroup
		all.Go(func() {
			c, err := app.Accept()
			if assert.NoError(t, err) {
				defer c.Close()
				answerAtOnce(c, bufio.NewReader(c))
			}
		})
		p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "h:1"}, Active: "blue", Dial: app.dial})
		require.NoError(t, err)
		all.Go(func() { p.Serve(door) })
		c, err := door.dial(t.Context(), "", "")
		require.NoError(t, err)
		go io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
		br := bufio.NewReader(c)
		h, err := readHead(br)
		require.NoError(t, err)
		assert.Contains(t, h, "202 Accepted")
		_, err = io.ReadFull(br, make([]byte, 2))
		require.NoError(t, err)
		count := func() int {
			synctest.Wait()
			l, err := p.InFlight(t.Context(), plain("blue"))
			require.NoError(t, err)
			return l.Requests
		}
		for range 20 {
			time.Sleep(3 * time.Second)
			_, err := io.WriteString(c, "more")
			require.NoError(t, err)
			require.Equal(t, 1, count())
		}
		time.Sleep(4 * time.Second)
		assert.Equal(t, 1, count())
		time.Sleep(2 * time.Second)
		assert.Zero(t, count())
		_, err = br.ReadByte()
		assert.Error(t, err, "the connection cannot carry another request")
		require.NoError(t, p.Close())
		all.Wait()
	})
}

// TestCutDoesNotWaitForAQuietUpload cuts such an upload.
func TestCutDoesNotWaitForAQuietUpload(t *testing.T) {
	f := single(t, rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) { answerAtOnce(c, br) }))
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
	assert.Contains(t, c.head(), "202 Accepted")
	begun := time.Now()
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
	f.idle(t, "blue")
	assert.Less(t, time.Since(begun), 4*time.Second)
}

// TestEndlessAnswerEndsWithItsClient lets a client go away in the midst of both its upload and an endless answer.
func TestEndlessAnswerEndsWithItsClient(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		for {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				return
			}
		}
	}, hello)
	for _, upload := range []string{"Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		c := f.raw(t)
		c.send("POST / HTTP/1.1\r\nHost: x\r\n" + upload)
		c.head()
		c.read(100_000)
		c.SetLinger(0)
		c.Close()
		f.idle(t, "blue")
	}
	assert.Zero(t, f.Stats().Failed)
}

// TestCutDoesNotWaitForADeafClient cuts while an interim answer cannot be written, since the client reads nothing.
func TestCutDoesNotWaitForADeafClient(t *testing.T) {
	var hints atomic.Int64
	f := single(t, rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		hint := []byte("HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 100_000) + "\r\n\r\n")
		for {
			if _, err := c.Write(hint); err != nil {
				return
			}
			hints.Add(1)
		}
	}))
	c := f.raw(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	last, since := int64(0), time.Now()
	soon(t, "all buffers on the way are full", func() bool {
		if n := hints.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 200*time.Millisecond
	})
	cut := make(chan error, 1)
	go func() { cut <- f.Force(t.Context(), plain("blue"), abswap.ForceCut) }()
	assert.NoError(t, within(t, cut, "cut"))
	f.idle(t, "blue")
}

// TestClientSendsAllOfALargeUploadThatIsNotTaken lets the slot answer in the midst of a large upload and close its connection: the client, which
// was not told to go, sends the rest of its body, and then its next request.
func TestClientSendsAllOfALargeUploadThatIsNotTaken(t *testing.T) {
	const size, first = 3 << 20, 1 << 20
	answered, closed := make(chan bool), make(chan bool)
	reset := sync.OnceFunc(func() { close(answered) })
	defer reset()
	f := single(t, rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		if n > 0 {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			return
		}
		io.CopyN(io.Discard, br, first)
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		<-answered
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		close(closed)
	}))
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
	c.send(strings.Repeat(".", first))
	h := c.head()
	require.Contains(t, h, "413 ")
	require.NotContains(t, h, "Connection: close")
	reset()
	within(t, closed, "the reset")
	c.send(strings.Repeat(".", size-first))
	c.send(plainGET)
	assert.Contains(t, c.head(), "200 OK", "the next request is none of the body")
}
