package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"
)

// idHeader names a POST, so that the application can tell whether it came twice.
const idHeader = "X-Test-Id"

// clients are those of the site: short requests at a constant rate, and long uploads. They never try again what was sent: what fails is lost.
// Patient ones try again to connect, as long as nobody listens.
type clients struct {
	url     string
	http    *http.Transport
	patient bool

	stop context.CancelFunc
	wg   sync.WaitGroup
	held chan struct{} // closed to let the held uploads go on

	mu       sync.Mutex
	asked    int
	refused  int             // attempts to connect while nobody listened
	seen     map[string]int  // answers by their text
	answers  []answer        // of GETs, in the order in which they ended
	posts    map[string]bool // by their IDs: whether they were answered
	failures []failure
	slowest  time.Duration // of the short requests that were answered
}

// answer is what a GET got.
type answer struct {
	release    string
	began, got time.Time
}

// failure is a request that was sent and got no right answer.
type failure struct {
	what      string
	err       error
	connected time.Time // when the connection was made that carried it; zero: none did
	at        time.Time
}

func (f failure) String() string {
	const layout = "15:04:05.000"
	return fmt.Sprintf("%s %s: %v (connected at %s)", f.at.Format(layout), f.what, f.err, f.connected.Format(layout))
}

// newClients begins a load of about 200 short requests a second on the front door at address: GETs on kept connections and on new ones, and
// POSTs whose bodies are checked.
func newClients(address string) *clients { return startClients(address, false) }

// newPatientClients begins the same load; its clients come back when the front door is away.
func newPatientClients(address string) *clients { return startClients(address, true) }

func startClients(address string, patient bool) *clients {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{url: "http://" + address, patient: patient, stop: stop, held: make(chan struct{}), seen: map[string]int{}, posts: map[string]bool{}}
	c.http = &http.Transport{MaxIdleConnsPerHost: 10, DialContext: dialBorn}
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
				c.short(n)
			}
		})
	}
	return c
}

// short makes one of the short requests.
func (c *clients) short(n int) {
	switch n % 3 {
	case 0:
		c.post(1+mathrand.IntN(20_000), 0, nil)
	default:
		c.get(n%3 == 1)
	}
}

// burst makes n short requests at once.
func (c *clients) burst(n int) {
	for i := range n {
		c.wg.Go(func() { c.short(i) })
	}
}

// end stops the load, waits for what is under way, and returns how many requests there were and what was lost.
func (c *clients) end() (asked int, seen map[string]int, lost []string) {
	c.stop()
	c.wg.Wait()
	c.http.CloseIdleConnections()
	lost, _ = c.lost()
	return c.asked, c.seen, lost
}

// killedBy reports whether f was connected to the front door that was killed then.
func (f failure) killedBy(o outage) bool {
	switch {
	case f.connected.IsZero() || f.connected.After(o.to) || f.at.Before(o.from):
		return false
	case underWine() && errors.Is(f.err, context.DeadlineExceeded):
		return true // a connection of a killed process, above all one that it has just accepted, is sometimes never closed there
	}
	return f.at.Before(o.to.Add(promptly))
}

// lost returns what failed for no reason. Who was connected to a front door that was killed is cut: that is not lost.
func (c *clients) lost(outages ...outage) (lost []string, cut int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.failures {
		if slices.ContainsFunc(outages, f.killedBy) {
			cut++
		} else {
			lost = append(lost, f.String())
		}
	}
	return lost, cut
}

// patience is how long a client waits for an answer, its upload included.
const patience = 30 * time.Second

// promptly is how soon those who were cut see it.
const promptly = 5 * time.Second

// releasesBetween returns the releases that answered GETs which began at from or later and ended before to.
func (c *clients) releasesBetween(from, to time.Time) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]int{}
	for _, a := range c.answers {
		if !a.began.Before(from) && a.got.Before(to) {
			seen[a.release]++
		}
	}
	return seen
}

// stepsBack counts GETs between the two moments that began after release next had answered somebody, and that old answered.
func (c *clients) stepsBack(from, to time.Time, old, next string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first time.Time
	n := 0
	for _, a := range c.answers { // in the order in which they ended
		switch {
		case a.got.Before(from) || a.got.After(to):
		case a.release == next && first.IsZero():
			first = a.got
		case a.release == old && !first.IsZero() && a.began.After(first):
			n++
		}
	}
	return n
}

func (c *clients) fail(what string, err error, connected time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.failures = append(c.failures, failure{what, err, connected, time.Now()})
}

func (c *clients) get(kept bool) {
	text, sent, err := c.do(func() (*http.Request, error) {
		req, err := http.NewRequest(http.MethodGet, c.url+"/", nil)
		if err == nil {
			req.Close = !kept
		}
		return req, err
	})
	if err != nil {
		c.fail("GET /", err, sent.connected)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.seen[text]++
	c.slowest = max(c.slowest, time.Since(sent.began))
	if f := strings.Fields(text); len(f) == 4 {
		c.answers = append(c.answers, answer{f[1], sent.began, time.Now()})
	}
}

// post sends size random bytes, spread over a time, and checks the answer. In the middle it waits for held, if that is not nil.
func (c *clients) post(size int, over time.Duration, held <-chan struct{}) {
	body := make([]byte, size)
	rand.Read(body)
	id := rand.Text()
	c.mu.Lock()
	c.posts[id] = false
	c.mu.Unlock()
	text, sent, err := c.do(func() (*http.Request, error) {
		req, err := http.NewRequest(http.MethodPost, c.url+"/upload", &slowly{bytes.NewReader(body), over / 50, size/50 + 1, held})
		if err == nil {
			req.ContentLength = int64(size)
			req.Header.Set(idHeader, id)
		}
		return req, err
	})
	if want := fmt.Sprintf("%d %x\n", size, sha256.Sum256(body)); err == nil && text != want {
		err = fmt.Errorf("answer %q, want %q", text, want)
	}
	if err != nil {
		c.fail("POST /upload", err, sent.connected)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.posts[id] = true
	if over == 0 && held == nil {
		c.slowest = max(c.slowest, time.Since(sent.began))
	}
}

// upload begins an upload that lasts.
func (c *clients) upload(lasts time.Duration) {
	c.wg.Go(func() { c.post(500_000, lasts, nil) })
}

// hold begins an upload that is half sent until the channel held is closed.
func (c *clients) hold() {
	held := c.held
	c.wg.Go(func() { c.post(500_000, 0, held) })
}

// sending is how a request went out.
type sending struct{ began, connected time.Time }

// do sends a request, and reads the answer. Where nobody listens, a patient client asks again.
func (c *clients) do(makeReq func() (*http.Request, error)) (text string, s sending, err error) {
	for end := time.Now().Add(30 * time.Second); ; {
		req, err := makeReq()
		if err != nil {
			return "", s, err
		}
		s = sending{began: time.Now()}
		text, err := c.once(req, &s)
		op, ok := errors.AsType[*net.OpError](err)
		if !c.patient || !ok || op.Op != "dial" || time.Now().After(end) {
			return text, s, err
		}
		c.mu.Lock()
		c.refused++
		c.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *clients) once(req *http.Request, s *sending) (string, error) {
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if b, ok := i.Conn.(*bornConn); ok {
			s.connected = b.born
		}
	}}
	ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(req.Context(), trace), patience)
	defer cancel()
	resp, err := c.http.RoundTrip(req.WithContext(ctx))
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

// bornConn knows when its making began.
type bornConn struct {
	net.Conn
	born time.Time
}

func dialBorn(ctx context.Context, network, address string) (net.Conn, error) {
	born := time.Now()
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &bornConn{c, born}, nil
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
