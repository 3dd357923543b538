package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// ControlOptions say who may call the control plane, and how. The zero value is for a Unix socket.
type ControlOptions struct {
	// Token is what callers must know: at least 22 characters by chance, as CreateToken makes them. It is needed over TCP. "": over a Unix
	// socket, whoever may open it may call.
	Token string

	// Hosts are names, without port, under which this machine may be called beside localhost and loopback addresses. Other names in a
	// request's Host are refused: a page in a browser may have made its own name lead here.
	Hosts []string

	BodyTimeout time.Duration // within which an order must have come whole; 0: 10s
	Lease       time.Duration // how long a hold outlasts the last sign of life of the process that asked for it; 0: 5s
}

// ControlHandler returns the control plane of s, for Clients in other processes: versioned JSON over HTTP, to be served on a listener of
// ListenControl by ControlServer, never on the site's own. It changes nothing for a request that is not wholly right, without the token,
// from another machine, under another host name, or from a page in a browser.
//
// Orders carry the revision of the state that they rest on, and a key. One that arrives late, after another took effect, is refused; one
// that arrives twice takes effect once. So no order that its caller has given up can win over a younger one.
//
//	GET  /v1/status                  what is in force, the counts of all slots, how they are, the hold, Stats
//	GET  /v1/inflight?slot=          the Load of one slot
//	GET  /v1/sessions?slot=          the Load of its sessions
//	GET  /v1/idle?slot=&wait=20s     answers when the slot is idle, or after wait
//	GET  /v1/list?slot=&limit=100    what is in flight: age, bytes each way, peer, method, path and its class
//	POST /v1/check                   findings of Check
//	POST /v1/activate, /v1/weights, /v1/seal, /v1/force, /v1/end, /v1/preview, /v1/hold, /v1/hold/renew, /v1/hold/release
//
// Durations are in nanoseconds. The error lists all mistakes in o.
func ControlHandler(s *Switcher, o ControlOptions) (http.Handler, error) {
	var errs []error
	if s == nil {
		errs = append(errs, errors.New("the Switcher is nil"))
	}
	c := &control{s: s, patience: o.BodyTimeout, hosts: map[string]bool{}, deeds: newDeeds(), leases: newLeases(o.Lease)}
	if o.Token != "" {
		if err := checkToken(o.Token); err != nil {
			errs = append(errs, fmt.Errorf("ControlOptions.Token: %w", err))
		}
		c.token = sha256.Sum256([]byte(o.Token))
	}
	for _, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, ":/ ") {
			errs = append(errs, fmt.Errorf("ControlOptions.Hosts: %q is not a name without port", h))
		}
		c.hosts[strings.ToLower(h)] = true
	}
	if o.BodyTimeout < 0 || o.Lease < 0 {
		errs = append(errs, fmt.Errorf("ControlOptions: BodyTimeout %s, Lease %s: none may be below 0", o.BodyTimeout, o.Lease))
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: control: %w", err)
	}
	if c.patience == 0 {
		c.patience = 10 * time.Second
	}
	c.routes = map[string]endpoint{
		pathStatus:   {http.MethodGet, c.status},
		pathInFlight: {http.MethodGet, c.inFlight},
		pathIdle:     {http.MethodGet, c.idle},
		pathList:     {http.MethodGet, c.list},
		pathCheck:    {http.MethodPost, c.check},
		pathActivate: {http.MethodPost, c.once(c.activate)},
		pathWeights:  {http.MethodPost, c.once(c.weights)},
		pathSeal:     {http.MethodPost, c.once(c.seal)},
		pathForce:    {http.MethodPost, c.once(c.force)},
		pathSessions: {http.MethodGet, c.sessions},
		pathPreview:  {http.MethodPost, c.once(c.preview)},
		pathEnd:      {http.MethodPost, c.once(c.end)},
		pathHold:     {http.MethodPost, c.once(c.hold)},
		pathRenew:    {http.MethodPost, c.renew},
		pathRelease:  {http.MethodPost, c.release},
	}
	return c, nil
}

// ControlServer returns a server for h that does not wait for clients that are slow to say what they want. The caller serves the listener of
// ListenControl with it, and closes it.
func ControlServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
}

// control is the handler.
type control struct {
	s        *Switcher
	token    [32]byte // its SHA-256; zero: none is needed
	hosts    map[string]bool
	patience time.Duration
	deeds    *deeds
	leases   *leases
	routes   map[string]endpoint
}

// call is a request that has passed the guard.
type call struct {
	ctx   context.Context
	query url.Values
	path  string
	key   string // of an order
	body  []byte
}

// handler returns the answer to a call, to be sent as JSON.
type handler func(call) (any, error)

type endpoint struct {
	method string
	handle handler
}

// ServeHTTP answers one call.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer, err := c.answer(w, r)
	status := http.StatusOK
	if err != nil {
		e := errorAnswer{}
		if x, ok := errors.AsType[*refusal](err); ok {
			e.Error.Text, status = x.text, x.status
		} else {
			e.Error, status = wireErrorOf(err)
			e.Revision = c.s.known.Load().Revision
		}
		answer = e
		switch status {
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
		case http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
		}
	}
	text, err := json.Marshal(answer)
	if err != nil { // no answer holds what JSON cannot
		status, text = http.StatusInternalServerError, []byte(`{"error":{"text":"the answer cannot be written"}}`)
	}
	w.WriteHeader(status)
	w.Write(append(text, '\n'))
}

func (c *control) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := c.guard(r); err != nil {
		return nil, err
	}
	to, ok := c.routes[r.URL.Path]
	if !ok {
		return nil, refuse(http.StatusNotFound, "there is no %.100q", r.URL.Path)
	}
	if r.Method != to.method {
		w.Header().Set("Allow", to.method)
		return nil, refuse(http.StatusMethodNotAllowed, "%s is asked by %s", r.URL.Path, to.method)
	}
	x := call{ctx: r.Context(), path: r.URL.Path}
	var err error
	if x.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, refuse(http.StatusBadRequest, "the query cannot be read: %v", err)
	}
	if to.method == http.MethodPost {
		if len(x.query) > 0 {
			return nil, refuse(http.StatusBadRequest, "an order has no query")
		}
		if keys := r.Header[http.CanonicalHeaderKey(keyHeader)]; len(keys) == 1 {
			x.key = keys[0]
		}
		if x.body, err = c.body(w, r); err != nil {
			return nil, err
		}
	} else if r.ContentLength != 0 {
		return nil, refuse(http.StatusBadRequest, "a question has no body")
	}
	return to.handle(x)
}

// into reads the order of x.
func (x call) into(out any) error {
	if err := decodeOrder(x.body, out); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return nil
}

// ask checks that the query has nothing but these names, each at most once, and returns the slot.
func (x call) ask(names ...string) (bareSlot, error) {
	for name, values := range x.query {
		if !slices.Contains(names, name) || len(values) != 1 {
			return "", refuse(http.StatusBadRequest, "query %.100q is not known here, or stands twice", name)
		}
	}
	slot := x.query.Get("slot")
	if slot == "" {
		return "", refuse(http.StatusBadRequest, "the query names no slot")
	}
	return bareSlot(slot), nil
}

// viewOf checks that an order says what it rests on.
func viewOf(revision uint64) (*view, error) {
	if revision == 0 {
		return nil, refuse(http.StatusBadRequest, "the order names no revision: ask %s for it", pathStatus)
	}
	return &view{revision: revision}, nil
}

// order reads the order of x, and what it rests on: revision is in out.
func (x call) order(out any, revision *uint64) (*view, error) {
	if err := x.into(out); err != nil {
		return nil, err
	}
	return viewOf(*revision)
}

func (c *control) activate(x call) (any, error) {
	var o activateOrder
	if err := x.into(&o); err != nil {
		return nil, err
	}
	return c.set(x.ctx, "activate", o.Revision, o.Hold, wireWeight{o.Slot, 100})
}

func (c *control) weights(x call) (any, error) {
	var o weightsOrder
	if err := x.into(&o); err != nil {
		return nil, err
	}
	return c.set(x.ctx, "set weights", o.Revision, o.Hold, o.Weights...)
}

func (c *control) set(ctx context.Context, what string, revision uint64, hold string, parts ...wireWeight) (any, error) {
	v, err := viewOf(revision)
	if err != nil {
		return nil, err
	}
	if hold != "" {
		if v.hold = c.leases.hold(hold); v.hold == nil {
			return nil, fmt.Errorf("proxy: %s: nothing changed: %w", what, errHoldLost)
		}
	}
	var w []abswap.Weight
	for _, p := range parts {
		w = append(w, abswap.Weight{Slot: p.Slot.slot(), Part: p.Part})
	}
	if err := c.s.set(ctx, what, v, w...); err != nil {
		return nil, err
	}
	return orderAnswer{v.made}, nil
}

func (c *control) seal(x call) (any, error) {
	var o sealOrder
	v, err := x.order(&o, &o.Revision)
	if err != nil {
		return nil, err
	}
	if err := c.s.seal(x.ctx, v, bareSlot(o.Slot)); err != nil {
		return nil, err
	}
	return orderAnswer{v.made}, nil
}

func (c *control) force(x call) (any, error) {
	var o forceOrder
	v, err := x.order(&o, &o.Revision)
	if err != nil {
		return nil, err
	}
	how, err := forceOf(o.How)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	if err := c.s.force(x.ctx, v, bareSlot(o.Slot), how); err != nil {
		return nil, err
	}
	return orderAnswer{o.Revision}, nil
}

func (c *control) end(x call) (any, error) {
	var o endOrder
	v, err := x.order(&o, &o.Revision)
	if err != nil {
		return nil, err
	}
	how, err := forceOf(o.How)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	ids := make([]uint64, 0, len(o.IDs))
	for _, text := range o.IDs {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "%.100q is no ID", text)
		}
		ids = append(ids, id)
	}
	if err := c.s.end(x.ctx, v, bareSlot(o.Slot), how, ids...); err != nil {
		return nil, err
	}
	return orderAnswer{o.Revision}, nil
}

func (c *control) inFlight(x call) (any, error) {
	slot, err := x.ask("slot")
	if err != nil {
		return nil, err
	}
	load, err := c.s.InFlight(x.ctx, slot)
	return loadAnswer{load}, err
}

func (c *control) idle(x call) (any, error) {
	slot, err := x.ask("slot", "wait")
	if err != nil {
		return nil, err
	}
	wait := maxPoll / 3
	if text := x.query.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxPoll {
			return nil, refuse(http.StatusBadRequest, "wait %.100q is not a duration of up to %s", text, maxPoll)
		}
	}
	ctx, cancel := context.WithTimeout(x.ctx, wait)
	defer cancel()
	err = c.s.WaitIdle(ctx, slot)
	if err != nil && ctx.Err() != nil && x.ctx.Err() == nil {
		return idleAnswer{false}, nil
	}
	return idleAnswer{err == nil}, err
}

func (c *control) list(x call) (any, error) {
	slot, err := x.ask("slot", "limit")
	if err != nil {
		return nil, err
	}
	limit := 100
	if text := x.query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 || limit > maxList {
			return nil, refuse(http.StatusBadRequest, "limit %.100q is not a number of up to %d", text, maxList)
		}
	}
	all, err := c.s.List(x.ctx, slot, limit)
	a := listAnswer{Work: []wireWork{}}
	for _, w := range all {
		w.Path = strings.ToValidUTF8(w.Path, "\uFFFD")
		a.Work = append(a.Work, wireWork{w, pathClass(w.Path), w.Class})
	}
	return a, err
}

// pathClass replaces the parts of a path that look like the name of one thing among many.
func pathClass(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) > 24 || strings.ContainsAny(p, "0123456789") {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, "/")
}

func (c *control) check(x call) (any, error) {
	var o checkOrder
	if err := x.into(&o); err != nil {
		return nil, err
	}
	r := abswap.CheckRequest{Steps: o.Steps, Exclusive: o.Exclusive, Stops: o.Stops, Retain: o.Retain, Drain: abswap.DrainOptions{
		Timeout: o.Drain.Timeout, AtDeadline: o.AtDeadline, Grace: o.Drain.Grace, Quiet: o.Drain.Quiet, Classes: o.Drain.Classes, Sessions: o.Sessions}}
	for _, sl := range o.Slots {
		r.Slots = append(r.Slots, sl.slot())
	}
	return checkAnswer{findingsOf(c.s.Check(x.ctx, r))}, nil
}

func (c *control) status(x call) (any, error) {
	if len(x.query) > 0 {
		return nil, refuse(http.StatusBadRequest, "the query is not known here")
	}
	return c.s.status(x.ctx)
}

// status tells what is in force. The revision is at most as young as the rest.
func (s *Switcher) status(ctx context.Context) (statusAnswer, error) {
	a := statusAnswer{Version: 1, Revision: s.known.Load().Revision, Slots: []slotStatus{}, Traits: s.Traits(), Stats: s.Stats(),
		Hold: s.holdStatus(), Queued: s.Queued()}
	health := s.Health()
	var err error
	if a.Weights, err = s.Weights(ctx); err != nil {
		return a, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Slots)) {
		load, err := s.InFlight(ctx, bareSlot(name))
		if err != nil {
			return a, err
		}
		k := slotStateOf(s.last(name))
		a.Slots = append(a.Slots, slotStatus{Name: name, Part: a.Weights[name], Sealed: s.table.Sealed(name), Address: k.Address, Release: k.Release,
			Started: k.Started, Load: load, Health: s.healthOf(name, health), slotExtras: s.extrasOf(ctx, name)})
	}
	return a, nil
}

// bareSlot is a slot of which only the name is known.
type bareSlot string

func (s bareSlot) Name() string { return string(s) }

// Ready is not for this process to say.
func (s bareSlot) Ready(context.Context) error {
	return fmt.Errorf("slot %q is another process's to probe: %w", string(s), errors.ErrUnsupported)
}

// toldSlot is a slot that another process has asked what it holds.
type toldSlot struct {
	bareSlot
	state abswap.SlotState
}

func (s toldSlot) Inspect(context.Context) (abswap.SlotState, error) { return s.state, nil }

func (w wireSlot) slot() abswap.Slot {
	if !w.Told {
		return bareSlot(w.Name)
	}
	return toldSlot{bareSlot(w.Name), abswap.SlotState{Release: w.Release, Running: w.Running, Address: w.Address, Started: w.Started}}
}
