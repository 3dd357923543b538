package fake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/abswap/abswap"
)

// Errors of the front door: what a client of a real one would see.
var (
	ErrRefused = errors.New("refused by the front door") // 503, with Retry-After: a hold could not keep the request
	ErrCut     = errors.New("cut")                       // the connection was closed in the middle by ForceCut
)

// Kind is a kind of work.
type Kind int

const (
	Plain    Kind = iota // a request, whatever its body and its answer
	Upload               // a request whose body is still being read
	Upgraded             // a websocket or another connection that left HTTP
	Session              // no request, but a session that is bound to the slot in which it begins
	Download             // a request whose answer is still being written
	Stream               // a request that is answered by server-sent events
)

// String returns "request", "upload", "upgraded", "session", "download" or "stream".
func (k Kind) String() string {
	switch k {
	case Upload:
		return "upload"
	case Upgraded:
		return "upgraded"
	case Session:
		return "session"
	case Download:
		return "download"
	case Stream:
		return "stream"
	}
	return "request"
}

// class is what List tells.
func (k Kind) class() abswap.Class {
	switch k {
	case Upload:
		return abswap.ClassUpload
	case Upgraded:
		return abswap.ClassTunnel
	case Session:
		return abswap.ClassSession
	case Download:
		return abswap.ClassDownload
	case Stream:
		return abswap.ClassStream
	}
	return abswap.ClassRequest
}

// Request is what a client asks for. Its zero value is a plain request.
type Request struct {
	Kind    Kind
	Method  string // only told by List; "": GET
	Path    string // only told by List; "": /
	Peer    string // only told by List
	Host    string // for preview rules
	Header  map[string]string
	Cookie  map[string]string
	Session string // ID of a session: the request goes where that is bound to; one that has ended is ignored
	Body    int64  // bytes that a hold has to read ahead
}

// Work is a piece of work that has begun. It stays until End, or until it is cut.
type Work struct {
	sw      *Switcher
	slot    string
	order   int64
	began   time.Time
	request Request
	in, out int64         // guarded by sw.mu, as all below
	moved   time.Time     // when they changed last
	ended   bool          // by the client
	cut     bool          // by Force
	told    bool          // leave is closed
	leave   chan struct{} // closed when it is asked to go elsewhere, or cut
	over    chan struct{} // closed when it is cut
}

// Begin begins a plain request and returns the slot that got it, with a function that ends it, which is idempotent. If no slot takes it
// (none is active, or a hold refused it) slot is "" and end does nothing. While a hold is in force it waits as any other request.
func (s *Switcher) Begin() (slot string, end func()) {
	w, err := s.Open(context.Background(), Request{})
	if err != nil {
		return "", func() {}
	}
	return w.Slot(), w.End
}

// Open begins a piece of work: it picks the slot by preview rules, then by session, then by weight, and counts it there. While a hold
// is in force it waits. The errors are ErrRefused (by a hold), abswap.ErrNoActive, and ctx's while it waits.
func (s *Switcher) Open(ctx context.Context, r Request) (*Work, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w, err, done := s.enqueue(ctx, r); done {
		return w, err
	}
	return s.open(r)
}

// open begins a piece of work now, whatever is held.
func (s *Switcher) open(r Request) (*Work, error) {
	for {
		unlock := s.lock()
		version := s.version
		name, err := s.pick(r)
		if err != nil || s.Between == nil {
			defer unlock()
			if err != nil {
				return nil, err
			}
			return s.enter(name, r), nil
		}
		unlock()
		s.Between(name)
		unlock = s.lock()
		if s.version == version {
			defer unlock()
			return s.enter(name, r), nil
		}
		unlock() // the world has changed since: pick again
	}
}

// pick chooses the slot for r; s.mu is held.
func (s *Switcher) pick(r Request) (string, error) {
	for _, name := range s.order {
		for _, rule := range s.slots[name].previews {
			if matches(rule, r) {
				return name, nil
			}
		}
	}
	if w := s.sessions[r.Session]; w != nil {
		return w.slot, nil
	}
	best := ""
	for _, name := range s.order { // the smooth choice: everyone gains its weight, the richest goes and pays the sum
		if p := s.slots[name]; p.weight > 0 {
			p.credit += p.weight
			if best == "" || p.credit > s.slots[best].credit {
				best = name
			}
		}
	}
	if best == "" {
		return "", fmt.Errorf("nothing takes the %s: %w", r.Kind, abswap.ErrNoActive)
	}
	s.slots[best].credit -= 100
	return best, nil
}

func matches(rule abswap.PreviewRule, r Request) bool {
	if rule.Host != "" && !strings.EqualFold(rule.Host, r.Host) {
		return false
	}
	if rule.Cookie != "" && r.Cookie[rule.Cookie] != rule.Value {
		return false
	}
	if rule.Header == "" {
		return true
	}
	for name, value := range r.Header {
		if strings.EqualFold(name, rule.Header) && value == rule.Value {
			return true
		}
	}
	return false
}

// enter counts r in the slot; s.mu is held.
func (s *Switcher) enter(slot string, r Request) *Work {
	s.serial++
	w := &Work{sw: s, slot: slot, order: s.serial, began: time.Now(), moved: time.Now(), request: r, leave: make(chan struct{}), over: make(chan struct{})}
	p := s.slots[slot]
	if r.Kind == Session {
		p.sessions[w] = struct{}{}
		s.sessions[w.ID()] = w
	} else {
		p.work[w] = struct{}{}
	}
	return w
}

// drop takes w out of the counts and tells those who wait for zero; s.mu is held.
func (s *Switcher) drop(w *Work) {
	p := s.slots[w.slot]
	delete(p.sessions, w)
	delete(s.sessions, w.ID())
	delete(p.work, w)
	if len(p.work) == 0 {
		for _, c := range p.idle {
			close(c)
		}
		p.idle = nil
	}
}

// Slot returns the name of the slot that has the work.
func (w *Work) Slot() string { return w.slot }

// Order returns a number that grows with the order in which work entered any slot of the Switcher.
func (w *Work) Order() int64 { return w.order }

// ID returns what Request.Session of later requests in the session is set to; "" for work that is not a session.
func (w *Work) ID() string {
	if w.request.Kind != Session {
		return ""
	}
	return fmt.Sprintf("session-%d", w.order)
}

// Transfer adds to the bytes that List tells: in came from the client, out went to it. Its call also ends the work's stillness.
func (w *Work) Transfer(in, out int64) {
	w.sw.mu.Lock()
	defer w.sw.mu.Unlock()
	w.in, w.out, w.moved = w.in+in, w.out+out, time.Now()
}

// Turn makes the work another kind, as a request becomes a stream. Neither may be Session.
func (w *Work) Turn(k Kind) {
	w.sw.mu.Lock()
	defer w.sw.mu.Unlock()
	w.request.Kind = k
}

// Err returns ErrCut if the work was cut, else nil.
func (w *Work) Err() error {
	w.sw.mu.Lock()
	defer w.sw.mu.Unlock()
	if w.cut {
		return fmt.Errorf("%s in slot %q: %w", w.request.Kind, w.slot, ErrCut)
	}
	return nil
}

// Leave returns a channel that is closed when the work is asked to go elsewhere (ForceHandOver), or is cut. The fake's clients obey only
// if the test makes them. Where the slot goes live before they have, it is as if they had not been asked, and there is a new channel.
func (w *Work) Leave() <-chan struct{} {
	w.sw.mu.Lock()
	defer w.sw.mu.Unlock()
	return w.leave
}

// Cut returns a channel that is closed when the work is cut (ForceCut); Err says so from then on.
func (w *Work) Cut() <-chan struct{} { return w.over }

// End ends the work. It is idempotent.
func (w *Work) End() {
	w.sw.mu.Lock()
	defer w.sw.mu.Unlock()
	if !w.ended && !w.cut {
		w.ended = true
		w.sw.drop(w)
	}
}

// tell closes leave once; sw.mu is held.
func (w *Work) tell() {
	if !w.told {
		w.told = true
		close(w.leave)
	}
}
