package framing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Application answers as it is told: a request for "/vector" gets the bytes of the vector under way, any other one a plain answer of its own.
type Application struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	vector AnswerVector
	pace   Pace
}

// NewApplication accepts connections on l until Close, which closes it.
func NewApplication(l net.Listener) *Application {
	a := &Application{l: l, conns: map[net.Conn]bool{}}
	a.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.conns[c] = true
			if a.closed {
				c.Close()
			}
			a.mu.Unlock()
			a.wg.Go(func() {
				defer func() {
					c.Close()
					a.mu.Lock()
					delete(a.conns, c)
					a.mu.Unlock()
				}()
				a.serve(c)
			})
		}
	})
	return a
}

// Addr is where it listens.
func (a *Application) Addr() string { return a.l.Addr().String() }

// Close ends it, and all its connections.
func (a *Application) Close() {
	a.l.Close()
	a.mu.Lock()
	a.closed = true
	for c := range a.conns {
		c.Close()
	}
	a.mu.Unlock()
	a.wg.Wait()
}

func (a *Application) serve(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		m, err := (&strict{br: br}).read()
		if err != nil {
			return
		}
		if m.Target != vectorTarget {
			body := own(m.Target)
			if m.Method == "HEAD" {
				body = ""
			}
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(own(m.Target)), body); err != nil {
				return
			}
			continue
		}
		a.mu.Lock()
		v, pace := a.vector, a.pace
		a.mu.Unlock()
		send(c, v.Raw, pace, false)
		if v.End {
			if h, ok := c.(interface{ CloseWrite() error }); ok {
				h.CloseWrite()
			}
			io.Copy(io.Discard, c) // so that what was sent arrives
			return
		}
	}
}

const vectorTarget = "/vector"

// own is the answer to a request that is no vector.
func own(target string) string { return "the answer to " + target + "\n" }

// AnswerJudge lets an Application give odd answers through a front door and says what went wrong. It is not safe for concurrent use.
type AnswerJudge struct {
	Address  string // host:port of the front door, which forwards to App
	App      *Application
	Patience time.Duration // for each conversation; 0: 10s
}

// Check lets the application answer v and returns an error that tells all that is not as it must be.
func (j *AnswerJudge) Check(ctx context.Context, v AnswerVector, pace Pace) error {
	patience := j.Patience
	if patience == 0 {
		patience = 10 * time.Second
	}
	j.App.mu.Lock()
	j.App.vector, j.App.pace = v, pace
	j.App.mu.Unlock()

	var wrong []error
	c, err := j.dial(ctx, patience)
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	br := bufio.NewReader(c)
	method := v.Method
	if method == "" {
		method = http.MethodGet
	}
	got := ask(c, br, method, vectorTarget)
	if err := v.differs(got); err != nil {
		wrong = append(wrong, err)
	}
	// Whose answer do the next ones get? First whoever comes on the same connection, if it goes on, then others.
	for i := range 4 {
		if i > 0 || got.last {
			c.Close()
			if c, err = j.dial(ctx, patience); err != nil {
				wrong = append(wrong, err)
				break
			}
			br = bufio.NewReader(c)
		}
		target := fmt.Sprintf("/next-%d", i)
		next := ask(c, br, http.MethodGet, target)
		if next.err != nil || next.status != 200 || next.body != own(target) {
			wrong = append(wrong, fmt.Errorf("the next answer, number %d, is %s", i+1, next))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s (%s; %s): %w\n  the application said: %.400q\n  the client got: %s", v.Name, v.Why, v.Want, errors.Join(wrong...), v.Raw, got)
}

func (j *AnswerJudge) dial(ctx context.Context, patience time.Duration) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", j.Address)
	if err != nil {
		return nil, fmt.Errorf("the front door cannot be reached: %w", err)
	}
	c.SetDeadline(time.Now().Add(patience))
	return c, nil
}

// heard is an answer as a client got it.
type heard struct {
	status int
	fields http.Header
	body   string
	last   bool  // the connection is not to be used again
	err    error // it is not whole
}

func (h heard) String() string {
	return fmt.Sprintf("%d %v %.200q, error %v", h.status, h.fields, h.body, h.err)
}

func ask(c net.Conn, br *bufio.Reader, method, target string) heard {
	if _, err := io.WriteString(c, request(method+" "+target+" HTTP/1.1", "Host: "+site, "")); err != nil {
		return heard{last: true, err: err}
	}
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return heard{last: true, err: err}
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		h := heard{status: resp.StatusCode, fields: resp.Header, last: resp.Close}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			h.last = true
			return h
		}
		if resp.ContentLength >= 0 && len(resp.Header["Content-Length"]) == 0 {
			h.fields.Set("Content-Length", fmt.Sprint(resp.ContentLength))
		}
		b, err := io.ReadAll(resp.Body)
		h.body, h.err = string(b), err
		h.last = h.last || err != nil
		return h
	}
}

// differs says what the client got that it must not get.
func (v AnswerVector) differs(got heard) error {
	refused := got.err == nil && got.status == http.StatusBadGateway && got.fields.Get("X-Evil") == ""
	switch v.Want {
	case Replaced:
		if !refused || strings.Contains(got.body, "hello") {
			return errors.New("it is not replaced by a 502")
		}
		return nil
	case Cut:
		if !refused && got.err == nil {
			return errors.New("the client takes a part for the whole")
		}
		var timeout net.Error
		if errors.As(got.err, &timeout) && timeout.Timeout() {
			return errors.New("the client is left waiting")
		}
		return nil
	}
	if refused && v.Or {
		return nil
	}
	var wrong []error
	if got.err != nil {
		wrong = append(wrong, fmt.Errorf("it is not whole: %w", got.err))
	}
	if got.status != v.Status {
		wrong = append(wrong, fmt.Errorf("the status is %d, not %d", got.status, v.Status))
	}
	if got.body != v.Body {
		wrong = append(wrong, fmt.Errorf("the body is %.100q, not %.100q", got.body, v.Body))
	}
	for name, value := range v.Fields {
		if x := got.fields.Values(name); len(x) != 1 || x[0] != value {
			wrong = append(wrong, fmt.Errorf("field %q is %.100q, not %.100q", name, x, value))
		}
	}
	for _, name := range v.Absent {
		if x := got.fields.Values(name); len(x) > 0 {
			wrong = append(wrong, fmt.Errorf("field %q is there: %.100q", name, x))
		}
	}
	return errors.Join(wrong...)
}
