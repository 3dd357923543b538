package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// ClientConfig says where a proxy's control plane is.
type ClientConfig struct {
	// Address is what ListenControl was given: "unix:/run/site/control.sock" or "127.0.0.1:7070". Required.
	Address string

	// Token is ControlOptions.Token; ReadToken reads it from a file. Required for TCP.
	Token string

	// Timeout is how long one call may take, if its context does not end sooner; waiting for a slot to become idle is not bounded by it.
	// 0: 30s, negative: none.
	Timeout time.Duration
}

// Client is a Switcher in another process, with all that it can do. It is safe for concurrent use.
//
// Slots are described to the proxy: their names, and, of an abswap.InspectingSlot, what its Inspect tells in this process.
//
// An error that the proxy gave is a ControlError: nothing has changed. If the context ended, or the connection broke, after an order may have
// reached the proxy, the error wraps ErrUnknownOutcome: the order is in force, or will be, or not. An order that is still on its way then
// cannot win over a later one: the proxy refuses what rests on a state that is no longer in force. Where another process was first, the
// Client looks again and gives its order anew; only if that goes on and on the error is ErrStale. An order that could not be sent, since
// nobody listens, is given again for some seconds: the proxy may just be started anew.
//
// From Hold until its release, or the end of its Total, Activate and SetWeights are orders under that hold: if the proxy has lost it, since it
// was started anew or did not hear of this process for too long, they are refused, and the error wraps ErrPermanent.
type Client struct {
	cfg     ClientConfig
	url     string
	http    *http.Transport
	orders  chan struct{} // held by the one whose order is on its way
	seen    atomic.Uint64 // the revision that the proxy told last; 0: none yet
	traits  atomic.Pointer[abswap.Traits]
	mu      sync.Mutex      // held while Close begins, or a hold
	closing context.Context // ends with Close
	close   context.CancelFunc
	holds   sync.WaitGroup
	holding atomic.Pointer[holding] // the hold that Activate and SetWeights are given under; nil: none
}

var ( // what it can do
	_ abswap.WeightedSwitcher = (*Client)(nil)
	_ abswap.SealingSwitcher  = (*Client)(nil)
	_ abswap.TraitsSwitcher   = (*Client)(nil)
	_ abswap.Checker          = (*Client)(nil)
	_ abswap.WaitingDrainer   = (*Client)(nil)
	_ abswap.ListingDrainer   = (*Client)(nil)
	_ abswap.ForcingDrainer   = (*Client)(nil)
	_ abswap.ClassDrainer     = (*Client)(nil)
)

// NewClient checks cfg and returns a Client. It connects to nothing. Close it when it is no longer needed.
func NewClient(cfg ClientConfig) (*Client, error) {
	network, at, err := controlAddress(cfg.Address)
	errs := []error{err}
	if cfg.Token != "" || network == "tcp" {
		errs = append(errs, checkToken(cfg.Token))
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: client: %w", err)
	}
	switch {
	case cfg.Timeout == 0:
		cfg.Timeout = 30 * time.Second
	case cfg.Timeout < 0:
		cfg.Timeout = 0
	}
	c := &Client{cfg: cfg, url: "http://" + at, orders: make(chan struct{}, 1)}
	if network == "unix" {
		c.url = "http://" + controlHost
	}
	c.closing, c.close = context.WithCancel(context.Background())
	c.http = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
		DisableCompression: true,
		IdleConnTimeout:    30 * time.Second,
	}
	return c, nil
}

// Close gives up the holds of this Client, waits for that, and closes its idle connections. Afterwards Hold is refused.
func (c *Client) Close() error {
	c.mu.Lock()
	c.close()
	c.mu.Unlock()
	c.holds.Wait()
	c.http.CloseIdleConnections()
	return nil
}

// Active returns the slot with the largest part of new work, as Switcher.Active does.
func (c *Client) Active(ctx context.Context) (string, error) {
	st, err := c.status(ctx)
	if err != nil {
		return "", err
	}
	return slots.Active(st.Weights)
}

// Weights returns the parts of the slots that take new work.
func (c *Client) Weights(ctx context.Context) (map[string]int, error) {
	st, err := c.status(ctx)
	return st.Weights, err
}

// Activate sends all new work to sl. See Switcher.Activate, and Client for its errors.
func (c *Client) Activate(ctx context.Context, sl abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := describe(ctx, sl)
	if err != nil {
		return fmt.Errorf("proxy: activate: nothing changed: %w", err)
	}
	return c.order(ctx, pathActivate, func(rev uint64) any { return activateOrder{rev, w, c.holding.Load().id()} }, nil)
}

// SetWeights gives each slot its part of the new requests. See Switcher.SetWeights, and Client for its errors.
func (c *Client) SetWeights(ctx context.Context, w ...abswap.Weight) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := abswap.CheckWeights(w); err != nil {
		return fmt.Errorf("proxy: set weights: %w", err)
	}
	var parts []wireWeight
	var errs []error
	for _, x := range w {
		s := wireSlot{Name: x.Slot.Name()}
		if x.Part > 0 {
			var err error
			if s, err = describe(ctx, x.Slot); err != nil {
				errs = append(errs, err)
			}
		}
		parts = append(parts, wireWeight{s, x.Part})
	}
	if err := multi.Join(errs...); err != nil {
		return fmt.Errorf("proxy: set weights: nothing changed: %w", err)
	}
	return c.order(ctx, pathWeights, func(rev uint64) any { return weightsOrder{rev, parts, c.holding.Load().id()} }, nil)
}

// Seal makes sure that nothing leads to sl. See Switcher.Seal, and Client for its errors.
func (c *Client) Seal(ctx context.Context, sl abswap.Slot) error {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return err
	}
	return c.order(ctx, pathSeal, func(rev uint64) any { return sealOrder{rev, name} }, nil)
}

// Force ends what is left in sl. See Switcher.Force, and Client for its errors.
func (c *Client) Force(ctx context.Context, sl abswap.Slot, how abswap.Force) error {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return err
	}
	text, err := forceText(how)
	if err != nil {
		return fmt.Errorf("proxy: slot %q: %w", name, err)
	}
	return c.order(ctx, pathForce, func(rev uint64) any { return forceOrder{rev, name, text} }, nil)
}

// End ends pieces of work in sl, by the IDs that List tells. See Switcher.End, and Client for its errors. A proxy that is too old for it lists
// work without IDs.
func (c *Client) End(ctx context.Context, sl abswap.Slot, how abswap.Force, ids ...uint64) error {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return err
	}
	text, err := forceText(how)
	if err != nil {
		return fmt.Errorf("proxy: slot %q: %w", name, err)
	}
	for some := range slices.Chunk(ids, maxEnd) {
		texts := make([]string, len(some))
		for i, id := range some {
			texts[i] = strconv.FormatUint(id, 10)
		}
		if err := c.order(ctx, pathEnd, func(rev uint64) any { return endOrder{rev, name, text, texts} }, nil); err != nil {
			return err
		}
	}
	return nil
}

// InFlight counts what the proxy has given to sl. See Switcher.InFlight.
func (c *Client) InFlight(ctx context.Context, sl abswap.Slot) (abswap.Load, error) {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return abswap.Load{}, err
	}
	var a loadAnswer
	err = c.ask(ctx, pathInFlight, url.Values{"slot": {name}}, c.cfg.Timeout, &a)
	return a.Load, err
}

// WaitIdle returns nil as soon as nothing is in flight in sl.
func (c *Client) WaitIdle(ctx context.Context, sl abswap.Slot) error {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return err
	}
	const wait = maxPoll / 3
	limit := c.cfg.Timeout
	if limit > 0 {
		limit += wait
	}
	for {
		var a idleAnswer
		if err := c.ask(ctx, pathIdle, url.Values{"slot": {name}, "wait": {wait.String()}}, limit, &a); err != nil || a.Idle {
			return err
		}
	}
}

// List returns at most limit of the pieces of work in sl, oldest first.
func (c *Client) List(ctx context.Context, sl abswap.Slot, limit int) ([]abswap.Work, error) {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return nil, err
	}
	var a listAnswer
	q := url.Values{"slot": {name}, "limit": {strconv.Itoa(min(max(limit, 0), maxList))}}
	if err := c.ask(ctx, pathList, q, c.cfg.Timeout, &a); err != nil {
		return nil, err
	}
	out := make([]abswap.Work, 0, len(a.Work))
	for _, w := range a.Work {
		w.Work.Class = w.WorkClass
		out = append(out, w.Work)
	}
	return out, nil
}

// Check returns what the proxy finds; if it cannot be asked, that.
func (c *Client) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := checkOrder{Steps: r.Steps, Exclusive: r.Exclusive, Stops: r.Stops, Retain: r.Retain, AtDeadline: r.Drain.AtDeadline,
		Sessions: r.Drain.Sessions, Drain: wireDrainingOptions{Timeout: r.Drain.Timeout, Grace: r.Drain.Grace, Quiet: r.Drain.Quiet, Classes: r.Drain.Classes}}
	var errs []error
	for _, sl := range r.Slots {
		if sl == nil {
			errs = append(errs, errors.New("proxy: a slot is nil"))
			continue
		}
		_, told := abswap.As[abswap.InspectingSlot](sl)
		o.Slots = append(o.Slots, wireSlot{Name: sl.Name(), Told: told})
	}
	var a checkAnswer
	if err := c.tell(ctx, pathCheck, "", o, &a); err != nil {
		return multi.Join(append(errs, err)...)
	}
	return multi.Join(append(errs, a.err())...)
}

// Traits are those of the proxy. If it has never been reached they are a cautious guess: it forgets.
func (c *Client) Traits() abswap.Traits {
	if t := c.traits.Load(); t != nil {
		return *t
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if st, err := c.status(ctx); err == nil {
		return st.Traits
	}
	return abswap.Traits{Forgets: true}
}

// Health tells how the slots are that the proxy asks, by name; none if it asks nobody. See Config.Health.
func (c *Client) Health(ctx context.Context) (all []SlotHealth, err error) {
	st, err := c.status(ctx)
	if err != nil {
		return nil, err
	}
	for _, sl := range st.Slots {
		if sl.Health != nil {
			all = append(all, *sl.Health)
		}
	}
	return all, nil
}

func (c *Client) status(ctx context.Context) (statusAnswer, error) {
	var st statusAnswer
	if err := ctx.Err(); err != nil {
		return st, err
	}
	if err := c.ask(ctx, pathStatus, nil, c.cfg.Timeout, &st); err != nil {
		return st, err
	}
	c.traits.Store(&st.Traits)
	return st, nil
}

// comeback is how long an order waits for a proxy that nobody listens for: it may just be started anew.
const comeback = 3 * time.Second

// order gives an order that rests on the state in force, and again if another one came first, or if it could not be sent.
func (c *Client) order(ctx context.Context, path string, about func(revision uint64) any, out any) error {
	select {
	case c.orders <- struct{}{}:
		defer func() { <-c.orders }()
	case <-ctx.Done():
		return ctx.Err()
	}
	const tries = 100
	began := time.Now()
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.orderOnce(ctx, path, about, out)
		switch {
		case errors.Is(err, ErrStale) && try < tries:
		case errors.Is(err, errUnsent) && time.Since(began) < comeback:
			if retry.Sleep(ctx, 50*time.Millisecond) != nil {
				return fmt.Errorf("%w; last: %w", ctx.Err(), err)
			}
			try = 0
		default:
			return err
		}
	}
}

func (c *Client) orderOnce(ctx context.Context, path string, about func(revision uint64) any, out any) error {
	revision := c.seen.Load()
	if revision == 0 {
		st, err := c.status(ctx)
		if err != nil {
			return err
		}
		revision = st.Revision
	}
	return c.tell(ctx, path, rand.Text(), about(revision), out)
}

// nameOf returns the slot's name, or an error if the context has ended.
func nameOf(ctx context.Context, sl abswap.Slot) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if sl == nil {
		return "", errors.New("proxy: the slot is nil")
	}
	return sl.Name(), nil
}

// describe asks the slot what it holds.
func describe(ctx context.Context, sl abswap.Slot) (wireSlot, error) {
	if sl == nil {
		return wireSlot{}, errors.New("a weight has no slot")
	}
	w := wireSlot{Name: sl.Name()}
	in, ok := abswap.As[abswap.InspectingSlot](sl)
	if !ok {
		return w, nil
	}
	st, err := in.Inspect(ctx)
	if err != nil {
		return w, fmt.Errorf("slot %q cannot be inspected: %w", w.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return w, err
	}
	w.Told, w.Address, w.Release, w.Started, w.Running = true, st.Address, st.Release, st.Started.Round(0), st.Running
	return w, nil
}
