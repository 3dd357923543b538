package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// clients are those of the site: short requests at a constant rate, and long uploads. They never try again: what fails is lost.
type clients struct {
	url  string
	http *http.Transport

	stop  context.CancelFunc
	wg    sync.WaitGroup
	held  chan struct{} // closed to let the held uploads go on
	mu    sync.Mutex
	asked int
	seen  map[string]int // answers by their text
	lost  []string       // what failed, and why
}

// newClients begins a load of about 200 short requests a second on the front door at address: GETs on kept connections and on new ones, and
// POSTs whose bodies are checked.
func newClients(address string) *clients {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{url: "http://" + address, http: &http.Transport{MaxIdleConnsPerHost: 10}, stop: stop, held: make(chan struct{}), seen: map[string]int{}}
	for i := range 4 {
		c.wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := i; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				switch n % 3 {
				case 0:
					c.post(1+rand.IntN(20_000), 0, nil)
				default:
					c.get(n%3 == 1)
				}
			}
		})
	}
	return c
}

// end stops the load, waits for what is under way, and returns how many requests there were and what was lost.
func (c *clients) end() (asked int, seen map[string]int, lost []string) {
	c.stop()
	c.wg.Wait()
	c.http.CloseIdleConnections()
	return c.asked, c.seen, c.lost
}

func (c *clients) book(what string, answer string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err != nil {
		c.lost = append(c.lost, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), what, err))
		return
	}
	if answer != "" {
		c.seen[answer]++
	}
}

func (c *clients) get(kept bool) {
	req, err := http.NewRequest(http.MethodGet, c.url+"/", nil)
	if err != nil {
		panic(err)
	}
	req.Close = !kept
	text, err := c.do(req)
	c.book("GET /", text, err)
}

// post sends size random bytes, spread over a time, and checks the answer. In the middle it waits for held, if that is not nil.
func (c *clients) post(size int, over time.Duration, held <-chan struct{}) {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	req, err := http.NewRequest(http.MethodPost, c.url+"/upload", &slowly{bytes.NewReader(body), over / 50, size/50 + 1, held})
	if err != nil {
		panic(err)
	}
	req.ContentLength = int64(size)
	text, err := c.do(req)
	if want := fmt.Sprintf("%d %x\n", size, sha256.Sum256(body)); err == nil && text != want {
		err = fmt.Errorf("answer %q, want %q", text, want)
	}
	c.book("POST /upload", "", err)
}

// upload begins an upload that lasts.
func (c *clients) upload(lasts time.Duration) {
	c.wg.Go(func() { c.post(500_000, lasts, nil) })
}

// hold begins an upload that is half sent until the channel held is closed.
func (c *clients) hold() {
	c.wg.Go(func() { c.post(500_000, 0, c.held) })
}

func (c *clients) do(req *http.Request) (string, error) {
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.100s", resp.Status, text)
	}
	return string(text), err
}

// slowly is a body that comes in pieces with pauses between them.
type slowly struct {
	*bytes.Reader
	pause time.Duration
	piece int
	held  <-chan struct{}
}

func (s *slowly) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	if s.held != nil && s.Len() < int(s.Size())/2 {
		<-s.held
	}
	return s.Reader.Read(p[:min(len(p), s.piece)])
}

// WriteTo hides that of bytes.Reader, which knows no pauses.
func (s *slowly) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{s}, make([]byte, s.piece))
}
