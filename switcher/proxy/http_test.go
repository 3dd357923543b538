package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUploadsOfEveryShape sends bodies with and without a length and gets back what the application received.
func TestUploadsOfEveryShape(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%s %v %d %x %v", r.Method, r.TransferEncoding, n, h.Sum(nil), err)
	}, hello)
	c := newClient(t)
	for _, size := range []int{0, 1, 4096, 70_000, 3 << 20} {
		body := make([]byte, size)
		rand.Read(body)
		for _, chunked := range []bool{false, true} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", f.url, bytes.NewReader(body))
			require.NoError(t, err)
			want := fmt.Sprintf("POST [] %d %x <nil>", size, sha256.Sum256(body))
			if chunked {
				req.Body, req.ContentLength, req.GetBody = io.NopCloser(io.MultiReader(bytes.NewReader(body))), -1, nil
				want = strings.Replace(want, "[]", "[chunked]", 1)
			}
			resp, err := c.Do(req)
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, want, string(got))
		}
	}
	f.idle(t, "blue")
	assert.LessOrEqual(t, f.IdleConns("blue"), 1, "one connection was used all the time")
}

// TestUploadIsNotBuffered sees each piece at the application before the next one is sent, and the upload counted all the while.
func TestUploadIsNotBuffered(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		pieces := make(chan string)
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			b := make([]byte, 100)
			for {
				n, err := r.Body.Read(b)
				if n > 0 {
					pieces <- string(b[:n])
				}
				if err != nil {
					fmt.Fprint(w, err)
					return
				}
			}
		}, hello)
		c := f.raw(t)
		if chunked {
			c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		} else {
			c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
		}
		for _, p := range []string{"one", "two", "six"} {
			assert.Equal(t, 1, waitLoad(t, f, "blue").Requests)
			if chunked {
				c.send("3\r\n" + p + "\r\n")
			} else {
				c.send(p)
			}
			assert.Equal(t, p, within(t, pieces, p))
		}
		if chunked {
			c.send("0\r\n\r\n")
		}
		assert.Contains(t, c.head(), "200 OK")
		assert.Equal(t, "EOF", c.read(3))
		f.idle(t, "blue")
	}
}

// waitLoad returns the load of the slot once there is one.
func waitLoad(t *testing.T, f *front, slot string) (l struct{ Requests, Upgraded int }) {
	t.Helper()
	soon(t, "something in flight", func() bool {
		x := f.load(t, slot)
		l.Requests, l.Upgraded = x.Requests, x.Upgraded
		return x.Total() > 0
	})
	return l
}

// TestAnswersAreFlushedAtOnce gets every piece of a stream, of unknown and of known length, before the application goes on; also the head
// before the first piece.
func TestAnswersAreFlushedAtOnce(t *testing.T) {
	for _, length := range []string{"", "6"} {
		next := make(chan bool)
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			for range 3 {
				<-next
				io.WriteString(w, "ab")
				http.NewResponseController(w).Flush()
			}
		}, hello)
		resp, err := newClient(t).Get(f.url)
		require.NoError(t, err)
		for range 3 {
			assert.Equal(t, 1, f.load(t, "blue").Requests, "counted to the last byte")
			next <- true
			b := make([]byte, 2)
			_, err := io.ReadFull(resp.Body, b)
			require.NoError(t, err)
			assert.Equal(t, "ab", string(b))
		}
		_, err = io.ReadAll(resp.Body)
		assert.NoError(t, err)
		f.idle(t, "blue")
	}
}

func TestContinueIsTheSlotsToSay(t *testing.T) {
	t.Parallel()
	t.Run("slot reads", func(t *testing.T) {
		read := make(chan bool)
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			<-read
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s", r.Header.Get("Expect"), b)
		}, hello)
		c := f.raw(t)
		c.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		close(read)
		assert.Equal(t, "HTTP/1.1 100 Continue\r\n\r\n", c.head())
		c.send("body")
		assert.Contains(t, c.head(), "200 OK")
		assert.Equal(t, "100-continue body", c.read(17))
		c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		assert.Contains(t, c.head(), "200 OK", "the connection lives on")
	})
	t.Run("slot refuses", func(t *testing.T) {
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no", http.StatusRequestEntityTooLarge)
		}, hello)
		c := f.raw(t)
		c.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		h := c.head()
		assert.True(t, strings.HasPrefix(h, "HTTP/1.1 413 "), h)
		assert.Contains(t, h, "Connection: close")
		assert.Equal(t, "no\n", c.rest())
		f.idle(t, "blue")
		assert.Zero(t, f.IdleConns("blue"), "a body was announced there: nothing else can follow")
	})
	t.Run("slot says nothing", func(t *testing.T) {
		f := single(t, rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
			readHead(br)
			b := make([]byte, 4)
			io.ReadFull(br, b)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", b)
		}))
		c := f.raw(t)
		c.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		assert.Equal(t, "HTTP/1.1 100 Continue\r\n\r\n", c.head(), "after a second")
		c.send("body")
		assert.Contains(t, c.head(), "200 OK")
		assert.Equal(t, "body", c.read(4))
	})
}

func TestTrailersGoBothWays(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s", r.Trailer.Get("Check"), r.Header.Get("Te"))
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	}, hello)
	req, err := http.NewRequestWithContext(t.Context(), "POST", f.url, io.MultiReader(strings.NewReader("x")))
	require.NoError(t, err)
	req.Trailer = http.Header{"Check": {"abc"}}
	req.Header.Set("TE", "trailers")
	resp, err := newClient(t).Do(req)
	require.NoError(t, err)
	assert.Contains(t, resp.Trailer, "Sum", "announced")
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "abc trailers", string(b))
	assert.Equal(t, http.Header{"Sum": {"42"}, "Late": {"yes"}}, resp.Trailer)
}

func TestAnswersWithoutBody(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			w.Header().Set("Content-Length", "1234")
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		}
	}, hello)
	c := f.raw(t)
	c.send("HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, c.head(), "Content-Length: 1234\r\n")
	c.send("GET /204 HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, c.head(), "204 No Content")
	c.send("GET /304 HTTP/1.1\r\nHost: x\r\n\r\n")
	h := c.head()
	assert.Contains(t, h, "304 Not Modified")
	assert.Contains(t, h, `Etag: "x"`)
	c.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, c.head(), "200 OK")
	f.idle(t, "blue")
	assert.Equal(t, 1, f.IdleConns("blue"), "one connection carried them all")
}

func TestInterimAnswersPass(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Final", "yes")
		hello(w, r)
	}, hello)
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link"), h.Get("Final")))
		return nil
	}})
	req, _ := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	resp, err := newClient(t).Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, []string{"103</a.css>"}, hints)
	assert.Empty(t, resp.Header["Link"], "of the interim answer only")
	assert.Equal(t, "yes", resp.Header.Get("Final"))

	c := f.raw(t)
	c.send("GET / HTTP/1.0\r\n\r\n")
	assert.Contains(t, c.head(), "200 OK", "no interim answer to an old client")
}

// TestClientAborts sees the application told when a client goes away, and the count fall.
func TestClientAborts(t *testing.T) {
	told := make(chan error, 1)
	begun := make(chan bool, 1)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			io.Copy(io.Discard, r.Body)
			begun <- true
			<-r.Context().Done()
			told <- r.Context().Err()
		case "/upload":
			b := make([]byte, 3)
			io.ReadFull(r.Body, b)
			begun <- true
			_, err := io.ReadAll(r.Body)
			told <- err
		case "/stream":
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					told <- err
					return
				}
			}
		}
	}, hello)
	for _, head := range []string{
		"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
		"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		c := f.raw(t)
		c.send(head)
		within(t, begun, head)
		c.Close()
		err := within(t, told, "the application told of "+head)
		assert.Error(t, err, "%q: not taken for complete", head)
		f.idle(t, "blue")
	}
	c := f.raw(t)
	c.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	c.head()
	c.SetLinger(0)
	c.Close()
	within(t, told, "stream")
	f.idle(t, "blue")
	assert.Zero(t, f.Stats().Failed, "a client's going away is no failure of ours")
}

// TestBadChunksAreRefused sends a body that begins well and is none.
func TestBadChunksAreRefused(t *testing.T) {
	begun, got := make(chan bool, 1), make(chan error, 1)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 3))
		begun <- true
		_, err := io.ReadAll(r.Body)
		got <- err
	}, hello)
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	within(t, begun, "the first chunk")
	c.send("zz\r\n")
	h := c.head()
	assert.True(t, strings.HasPrefix(h, "HTTP/1.1 400 "), h)
	assert.Error(t, within(t, got, "the application told"))
	f.idle(t, "blue")
}

// TestBrokenAnswersAreSeenBroken lets the slot die in the midst of an answer: the client must not take it for whole.
func TestBrokenAnswersAreSeenBroken(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		f := single(t, rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
			readHead(br)
			io.WriteString(c, answer)
		}))
		resp, err := newClient(t).Get(f.url)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, answer)
		assert.Equal(t, "abc", string(b), "what came is given on")
		f.idle(t, "blue")
		assert.EqualValues(t, 1, f.Stats().Failed)
	}
}

// TestAnswersThatAreNone gets 502 for what is no HTTP.
func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"not http":           "SSH-2.0-OpenSSH\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"endless head":       "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1100),
		"101 out of nowhere": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"nothing":            "",
	} {
		t.Run(name, func(t *testing.T) {
			f := single(t, rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
				readHead(br)
				io.WriteString(c, answer)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, br)
			}))
			status, _, body := ask(t, newClient(t), f.url)
			assert.Equal(t, 502, status)
			assert.Equal(t, "502 Bad Gateway: the application did not answer\n", body)
			assert.EqualValues(t, 1, f.Stats().Failed)
			f.idle(t, "blue")
		})
	}
}

// TestC7EarlyAnswerReachesTheClient lets the slot answer and close while a large upload is being sent, many times over.
func TestC7EarlyAnswerReachesTheClient(t *testing.T) {
	for name, answer := range map[string]string{
		"sized":      "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large",
		"chunked":    "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\ntoo large\r\n0\r\n\r\n",
		"to its end": "HTTP/1.1 413 Too Large\r\n\r\ntoo large",
	} {
		t.Run(name, func(t *testing.T) {
			f := single(t, rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
				readHead(br)
				io.CopyN(io.Discard, br, int64(n*10_000))
				io.WriteString(c, answer)
			}))
			for range 15 {
				c := f.raw(t) // each on its own connection; reads only after it has tried to send all
				c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n")
				piece := make([]byte, 64<<10)
				for range 128 {
					_, err := c.Write(piece)
					require.NoError(t, err, "the client can send all")
				}
				resp, err := http.ReadResponse(c.br, nil)
				require.NoError(t, err)
				assert.Equal(t, 413, resp.StatusCode)
				body, err := io.ReadAll(resp.Body)
				if name != "to its end" { // which a reset connection does not show; on Windows a reset also takes what has not been read
					assert.NoError(t, err)
					assert.Equal(t, "too large", string(body))
				}
				c.Close()
			}
			f.idle(t, "blue")
		})
	}
}

// TestAnswerWhileUploading carries both directions at the same time.
func TestAnswerWhileUploading(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		b := make([]byte, 3)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	}, hello)
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", f.url, pr)
	answered := make(chan *http.Response)
	go func() {
		resp, err := newClient(t).Do(req)
		assert.NoError(t, err)
		answered <- resp
	}()
	pw.Write([]byte("one"))
	resp := within(t, answered, "answer")
	for _, want := range []string{"one", "two", "six"} {
		if want != "one" {
			pw.Write([]byte(want))
		}
		b := make([]byte, 3)
		_, err := io.ReadFull(resp.Body, b)
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	pw.Close()
	_, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	f.idle(t, "blue")
}

// TestOldClients get an answer whose end is the connection's, if it has no length.
func TestOldClients(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a")
		http.NewResponseController(w).Flush()
		io.WriteString(w, "b")
	}, hello)
	c := f.raw(t)
	c.send("GET / HTTP/1.0\r\n\r\n")
	assert.NotContains(t, c.head(), "chunked")
	assert.Equal(t, "ab", c.rest())
}

func TestContextOfTheCallerEndsTheRequest(t *testing.T) {
	begun := make(chan bool, 1)
	told := make(chan bool, 1)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-r.Context().Done()
		told <- true
	}, hello)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	got := make(chan error)
	go func() {
		_, err := newClient(t).Do(req)
		got <- err
	}()
	within(t, begun, "begun")
	cancel()
	assert.True(t, errors.Is(within(t, got, "client"), context.Canceled))
	within(t, told, "application")
	f.idle(t, "blue")
}
