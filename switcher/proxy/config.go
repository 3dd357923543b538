package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// Config says what is behind the front door. Only Slots is required. No time limit here ends a request that is being answered, a quiet
// upload or a websocket; there is none that could.
type Config struct {
	// Slots are the slots by name, each with the host:port at which its application listens. "" means that the slot itself tells it:
	// the address that an abswap.InspectingSlot reports at Activate or SetWeights goes before the one named here.
	Slots map[string]string

	// Protocols says which protocol the application of a slot speaks; HTTP1 where it is not named. With H2C gRPC works: unary calls, streams in
	// both directions, trailers. Clients of either protocol reach slots of either one; websockets reach those that speak HTTP1.
	Protocols map[string]Protocol

	// Active is the slot that takes work at once, unless StateFile knows better; it needs an address in Slots. "": none: until the first Activate every request is
	// answered 503 with Retry-After.
	Active string

	// StateFile is where the proxy remembers on the disk what is in force: which slot has which part, where its application listens, what
	// is sealed. A proxy that starts with such a file goes on where the last one ended, however that ended, and forwards to the addresses
	// in it; Active counts only while there is no file. A change is on the disk before it is in force; one that cannot be written fails
	// and changes nothing. A file that is damaged, of a newer program, or names slots that Slots lacks is refused by New. Its folder must
	// exist, and should be on a disk of this machine. Beside it lies a lock, StateFile + ".lock": one proxy at a time. "": it forgets.
	StateFile string

	// TrustedPeers are the networks of other proxies in front of this one. Only from them the fields Forwarded and X-Forwarded-* of a
	// request are kept and continued; from all others they are dropped. Empty: nobody is trusted.
	TrustedPeers []netip.Prefix

	// ReleaseHeader is the name of a field that every answer of a slot gets, with "slot/release" as its value; the release is empty
	// where the slot does not tell it. A check at the front door reads it. "": no such field.
	ReleaseHeader string

	// Sessions keeps each client's session in the slot where it began; see SessionConfig. nil: every request goes where new work goes.
	Sessions *SessionConfig

	// StickyWeights is the name of a cookie by which a client stays, while the work is shared out between slots, in the one that it was given
	// first, as long as that has a part, with that release; then it is given another one. The parts are then those of the clients that come
	// without the cookie, not of all requests. The cookie is not signed: a client may choose among the slots that have a part. "": each request
	// is shared out by itself.
	StickyWeights string

	// PreviewPeers are the networks whose clients may use previews; requests of all others go as if there were none. Behind a proxy in
	// TrustedPeers the client is the one that it names in X-Forwarded-For; a request that another proxy has forwarded is nobody's. Empty: this
	// machine's own addresses of loopback.
	PreviewPeers []netip.Prefix

	// CloseStatus is the status of the close frame by which a websocket is asked to end: 1001 (going away), which every client knows, or 1012
	// (service restart). 0: 1001.
	CloseStatus uint16

	DialTimeout time.Duration // of a connection to a slot; 0: 5s, negative: none
	ReuseBefore time.Duration // a kept connection to a slot carries a request that cannot be repeated (POST) only if idle for less; 0: 2s, negative: never
	HeadTimeout time.Duration // from the first byte of a client's request head to its last, and of a TLS handshake; 0: 1m, negative: none
	IdleTimeout time.Duration // a client's connection without a request is closed after it; 0: 5m, negative: never
	Farewell    time.Duration // how long Shutdown says "Connection: close" in answers before it closes idle connections; 0: 500ms, negative: not at all

	// DisableHTTP2 makes Serve refuse HTTP/2. Otherwise it speaks it with clients that choose it in the TLS handshake, if the tls.Config of the
	// listener offers "h2" in NextProtos, and with those that begin with it in plaintext. Where it is refused NextProtos must not offer it.
	DisableHTTP2 bool

	// MaxHead and MaxFields bound the head of a client's request: its bytes, from the first of the request line to its last CRLF, and its
	// fields. One that is larger is answered 431, and its connection closed. 0: 1 MiB and 1000, which are also the most. A head that comes
	// byte by byte is ended by HeadTimeout, which is the time for all of it. Over HTTP/2 a head has at most 128 KiB, and only its stream is
	// refused. ServeHTTP keeps to MaxFields; how long a head may be is a matter of its net/http.Server there.
	MaxHead, MaxFields int

	// MaxConns is how many client connections Serve carries at a time, of whatever protocol; 0: no limit. When there are so many, one more waits for room, and
	// others in the listener's backlog: nobody is refused by a burst. While one waits, answers over HTTP/1.1 say "Connection: close", and its
	// idle connections end after 10s.
	MaxConns int

	// MaxInFlight is how many requests a slot, of one release, carries at a time; 0: no limit. What is more waits at the front door, counted in
	// no slot: at most MaxQueue requests (0: 1000, negative: none), each at most QueueWait (0: 10s, negative: as long as its client does),
	// and their bodies, which are read meanwhile, at most QueueBytes together (0: 16 MiB), so that it shows when a client goes away: such a
	// request is never delivered. They go on in the order in which they came; where the slots are switched meanwhile, by what is in force
	// then. What cannot wait is answered 503 with Retry-After. Upgraded connections, such as websockets, take no place.
	MaxInFlight, MaxQueue int
	QueueWait             time.Duration
	QueueBytes            int64

	// Health says how the slots are asked how they are, from New to Close. nil: nobody is asked.
	Health *Health

	// OnHealth is told when a slot becomes healthy or unhealthy, one after the other, on a goroutine of the proxy's. It returns soon, and
	// does not call Close. nil: nobody is told.
	OnHealth func(SlotHealth)

	// Dial connects to a slot. nil: TCP, as net.Dialer does; on Linux, to a literal loopback address, without what takes waiting, and without
	// keep-alive probes, which one machine does not need.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Logger *slog.Logger // nil: silent
}

// Protocol is what an application speaks.
type Protocol int

const (
	HTTP1 Protocol = iota // HTTP/1.1
	H2C                   // HTTP/2 in plaintext with prior knowledge, as gRPC servers without TLS do
)

// check returns all mistakes of c at once.
func (c Config) check() error {
	errs := slots.CheckConfig(c.Slots, c.Active)
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(c.Protocols)) {
		if _, ok := c.Slots[name]; !ok {
			bad("Config.Protocols: %q is not one of the slots", name)
		}
		if p := c.Protocols[name]; p != HTTP1 && p != H2C {
			bad("Config.Protocols: slot %q: %d is no protocol: HTTP1 and H2C are", name, p)
		}
	}
	if c.StateFile != "" {
		for name := range c.Slots {
			if !utf8.ValidString(name) {
				bad("Config.StateFile cannot keep slot %q, whose name is not UTF-8", name)
			}
		}
	}
	if c.CloseStatus != 0 && c.CloseStatus != 1001 && c.CloseStatus != 1012 {
		bad("Config.CloseStatus: %d is neither 1001 nor 1012", c.CloseStatus)
	}
	for i, p := range c.TrustedPeers {
		if !p.IsValid() {
			bad("Config.TrustedPeers: number %d is not a valid network", i)
		}
	}
	for i, p := range c.PreviewPeers {
		if !p.IsValid() {
			bad("Config.PreviewPeers: number %d is not a valid network", i)
		}
	}
	if err := c.checkSessions(); err != nil {
		errs = append(errs, err)
	}
	if c.ReleaseHeader != "" && !isToken(c.ReleaseHeader) {
		bad("Config.ReleaseHeader: %q is not a valid name of a header field", c.ReleaseHeader)
	} else if reservedAnswerField(c.ReleaseHeader) {
		bad("Config.ReleaseHeader: %q has a meaning of its own in HTTP", c.ReleaseHeader)
	}
	c.checkLimits(bad)
	c.Health.check(bad)
	return multi.Join(errs...)
}

// isToken reports whether s can be the name of a header field.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// withDefaults returns c with each zero duration set to its documented default, and negative ones to 0, which means none from here on.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		switch {
		case *d == 0:
			*d = def
		case *d < 0:
			*d = 0
		}
	}
	set(&c.DialTimeout, 5*time.Second)
	set(&c.ReuseBefore, 2*time.Second)
	set(&c.HeadTimeout, time.Minute)
	set(&c.IdleTimeout, 5*time.Minute)
	set(&c.Farewell, 500*time.Millisecond)
	set(&c.QueueWait, 10*time.Second)
	if c.MaxQueue == 0 {
		c.MaxQueue = 1000
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 16 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Slots = maps.Clone(c.Slots)
	c.Protocols = maps.Clone(c.Protocols)
	if len(c.PreviewPeers) == 0 {
		c.PreviewPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if c.Sessions != nil {
		o := *c.Sessions
		o.ARR = maps.Clone(o.ARR)
		c.Sessions = &o
	}
	return c
}
