package framing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

// Record is one request, or a part of one, that reached a Recorder.
type Record struct {
	Message
	Conn int   // the number of its connection, from 0
	Err  error // why it is none: a *Fault, or the connection's end in the midst of it; nil: it is whole
}

// Recorder is an application that keeps what reaches it. It reads requests strictly, by a parser of its own, and answers each with 200 and its
// number in the field X-Recorded, and with method and target as the body. One that is wrong gets 400 and the end of the connection.
type Recorder struct {
	l  net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something below changes
	conns   map[net.Conn]bool
	within  int // connections in the midst of a request
	opened  int
	records []Record
	closed  bool
}

// NewRecorder accepts connections on l until Close, which closes it.
func NewRecorder(l net.Listener) *Recorder {
	r := &Recorder{l: l, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	r.wg.Go(r.accept)
	return r
}

// Addr is where it listens.
func (r *Recorder) Addr() string { return r.l.Addr().String() }

// Close ends it, and all its connections.
func (r *Recorder) Close() {
	r.l.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// Records returns what has come so far, from the record with that number on.
func (r *Recorder) Records(from int) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records[min(from, len(r.records)):])
}

// Count returns how many records there are.
func (r *Recorder) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

// Settle waits until no connection is in the midst of a request.
func (r *Recorder) Settle(ctx context.Context) error {
	for {
		r.mu.Lock()
		n, changed := r.within, r.changed
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d requests have begun at the application and neither end nor break off: %w", n, ctx.Err())
		}
	}
}

// change runs f under the lock and wakes who waits.
func (r *Recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Recorder) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		id, closed := 0, false
		r.change(func() {
			id, closed = r.opened, r.closed
			r.opened++
			r.conns[c] = true
		})
		if closed {
			c.Close()
			return
		}
		r.wg.Go(func() {
			defer r.change(func() { delete(r.conns, c) })
			defer c.Close()
			r.serve(id, c)
		})
	}
}

func (r *Recorder) serve(id int, c net.Conn) {
	br := bufio.NewReader(c)
	for {
		if _, err := br.Peek(1); err != nil {
			return
		}
		r.change(func() { r.within++ })
		m, err := (&strict{br: br}).read()
		n := 0
		r.change(func() {
			r.within--
			n = len(r.records)
			r.records = append(r.records, Record{Message: *m, Conn: id, Err: err})
		})
		var f *Fault
		if errors.As(err, &f) {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if err != nil || !answerRecorded(c, m, n) {
			return
		}
	}
}

func answerRecorded(w io.Writer, m *Message, n int) (on bool) {
	on = m.Version == "HTTP/1.1" && !slices.ContainsFunc(m.Values("Connection"), func(v string) bool { return strings.EqualFold(v, "close") })
	body := m.Method + " " + m.Target + "\n"
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Recorded: %d\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n", n, len(body))
	if !on {
		head += "Connection: close\r\n"
	}
	if m.Method == "HEAD" {
		body = ""
	}
	_, err := io.WriteString(w, head+"\r\n"+body)
	return on && err == nil
}
