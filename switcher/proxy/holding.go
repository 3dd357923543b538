package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// Front is a proxy that stands in front of another switcher: a *Switcher in this process, or a *Client of one in another process.
type Front interface {
	abswap.HoldingSwitcher
	abswap.TraitsSwitcher
	abswap.Checker
	abswap.ListingDrainer
	abswap.ForcingDrainer
}

var (
	_ Front = (*Switcher)(nil)
	_ Front = (*Client)(nil)
)

// HoldingConfig says what stands behind what. Front, Inner, Slots and Address are required.
type HoldingConfig struct {
	// Front is where clients come in. It has the slots of Inner by the same names in its Config.Slots, each with the address "", and nobody
	// else steers it. The caller keeps it and closes it.
	Front Front

	// Inner is the switcher with the gap: iis.SiteToggle, or one that reloads its engine.
	Inner abswap.Switcher

	// Slots are the slots of Inner, all of them.
	Slots []abswap.Slot

	// Address is the host:port of the front door of Inner, at which it answers plain HTTP whichever slot is active: the public binding of the
	// toggled sites, on loopback. The Host field of requests is passed on as it came.
	Address string

	// Drainer counts what the slots carry behind the front door of Inner. It is combined with the counts of Front: a slot is drained when
	// both say so. nil: As[Drainer](Inner); if Inner is none, the counts of Front alone, which miss what does not come through Front.
	Drainer abswap.Drainer

	// Hold bounds how many requests wait during a switch, for how long, and the memory for their bodies. Total: 0: 30s, and it must be
	// longer than a switch of Inner takes, its commits and proofs included; Each: 0: as Total; Max and Bytes: 0: as abswap.HoldOptions
	// says. Beyond is HoldRefuse: a request that passed would fall into the gap.
	Hold abswap.HoldOptions

	// Settle is how long a request may go without a byte of its answer before it is taken as begun behind the front door of Inner. So long
	// at the most a switch waits for requests that were on their way when it began. 0: 2s, negative: it does not wait.
	Settle time.Duration

	// OnSwitch is told of each switch when its hold has ended, on the caller's goroutine, and calls nothing of the Holding. nil: nobody.
	OnSwitch func(HeldSwitch)
}

// HeldSwitch tells how requests were held for one switch.
type HeldSwitch struct {
	From, To string        // slots as Front knew and knows them; "": none
	Settled  time.Duration // how long requests on their way were waited for
	Begun    int           // requests and connections that went on during the switch since Inner had begun them
	Unproven int           // of these: without a byte of an answer, taken as begun for their age
	Held     time.Duration // how long the hold lasted
	Expired  bool          // it ended before the switch was done, by its Total or since the proxy lost it: what came then may have met the gap
	Err      error         // of the switch
}

// Holding is a Switcher without a gap, made of one that has a gap and a proxy in front of it. Its Activate
//
//   - makes new requests wait at the proxy (see Switcher.Hold for what that promises),
//   - waits until what was on its way to the inner front door has been answered, or has begun to be, or is so old that it has been begun,
//   - lets the inner switcher switch, which returns when that is in force,
//   - tells the proxy whose requests these are from now on, so that they are counted for the new slot, and go there on fresh connections,
//   - and lets go, in the order in which they came, those that waited.
//
// If the inner switch fails, or nobody knows how it went, the requests go on to whatever serves. If the caller dies the hold ends by itself:
// with a *Client when its lease runs out, with a *Switcher the proxy dies too.
//
// What was begun before a switch is not held and not cut by the proxy: an upload, a download, a websocket stays on its connection to the inner
// front door, and in the slot where it began. Whether it survives there is up to the inner switcher (rule S3), and no hold can mend that. A
// site toggle lets the worker processes of classic applications, and of static files, finish what they have. It shuts ASP.NET Core
// applications down: what they had begun gets their shutdownTimeLimit, and websockets are dropped. Where that hurts, put the proxy in front of
// two sites that both run, without a toggle.
//
// The counts of a slot are those of the proxy, for all that went through it while the slot was active behind it. When somebody else moves the
// inner switcher, the proxy counts for the wrong slot until that is seen, by Active, by a zero that would be told, or by Follow; the evidence
// is unknown then until Activate or Follow has put it right, and what was begun before that counts for every slot. A Holding made later does
// not know of it.
//
// Of what else the inner switcher can do only Seal is offered, under a hold: weights would need a proxy that knows where each request goes, and
// a preview would be counted for the wrong slot. All methods are safe for concurrent use.
type Holding struct {
	cfg    HoldingConfig
	slots  map[string]abswap.Slot // by name
	counts abswap.Drainer
	turn   slots.Turn  // of the one who moves something
	moving atomic.Bool // that one has seen for whom the front counts
	extra  any         // what Unwrap leads to; nil: nothing

	mu    sync.Mutex
	own   *ownHold // the one that Hold has given; nil: none
	blame blame
}

var ( // what it can do
	_ abswap.HoldingSwitcher = (*Holding)(nil)
	_ abswap.TraitsSwitcher  = (*Holding)(nil)
	_ abswap.Checker         = (*Holding)(nil)
	_ abswap.ListingDrainer  = (*Holding)(nil)
	_ abswap.ForcingDrainer  = (*Holding)(nil)
	_ abswap.ClassDrainer    = (*Holding)(nil)
	_ abswap.SealingSwitcher = sealable{}
)

// ownHold is a hold that a caller has asked for.
type ownHold struct {
	passes bool
	ends   time.Time // it lasts no longer
	letGo  func()
}

// landing bounds what is done after a switch that the caller's context may not have survived.
const landing = 10 * time.Second

// NewHolding checks cfg and returns a Holding; it asks nobody anything. The error lists all mistakes in cfg. Call Follow before the front
// serves: until then it knows of no slot and answers 503.
func NewHolding(cfg HoldingConfig) (*Holding, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Front == nil {
		bad("HoldingConfig.Front is nil: set the proxy at which clients come in")
	}
	if cfg.Inner == nil {
		bad("HoldingConfig.Inner is nil: set the switcher behind the proxy")
	}
	if len(cfg.Slots) == 0 {
		bad("HoldingConfig.Slots is empty: name all slots of the switcher behind the proxy")
	}
	byName := map[string]abswap.Slot{}
	for i, s := range cfg.Slots {
		switch {
		case s == nil || s.Name() == "":
			bad("HoldingConfig.Slots: number %d is nil or has no name", i)
		case byName[s.Name()] != nil:
			bad("HoldingConfig.Slots: slot %q is named twice", s.Name())
		default:
			byName[s.Name()] = s
		}
	}
	if err := slots.CheckAddress(cfg.Address); err != nil {
		bad("HoldingConfig.Address: %w", err)
	}
	o := cfg.Hold
	if o.Each < 0 || o.Total < 0 || o.Max < 0 || o.Bytes < 0 {
		bad("HoldingConfig.Hold: Each %s, Total %s, Max %d, Bytes %d: none may be below 0", o.Each, o.Total, o.Max, o.Bytes)
	}
	if o.Beyond != abswap.HoldRefuse {
		bad("HoldingConfig.Hold.Beyond is %d: only HoldRefuse can be, for what passes falls into the gap", o.Beyond)
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: holding: %w", err)
	}
	if cfg.Hold.Total == 0 {
		cfg.Hold.Total = 30 * time.Second
	}
	if cfg.Hold.Each == 0 {
		cfg.Hold.Each = cfg.Hold.Total
	}
	cfg.Hold = cfg.Hold.WithDefaults()
	if cfg.Settle == 0 {
		cfg.Settle = 2 * time.Second
	}
	if cfg.Drainer == nil {
		cfg.Drainer, _ = abswap.As[abswap.Drainer](cfg.Inner)
	}
	h := &Holding{cfg: cfg, slots: byName, turn: slots.NewTurn()}
	h.counts = frontCounts{h}
	if cfg.Drainer != nil {
		h.counts = abswap.Both(h.counts, cfg.Drainer)
	}
	if inner, ok := abswap.As[abswap.SealingSwitcher](cfg.Inner); ok {
		h.extra = sealable{&through{h}, inner}
	}
	return h, nil
}

// Inner returns HoldingConfig.Inner. A call of it is not held.
func (h *Holding) Inner() abswap.Switcher { return h.cfg.Inner }

// Unwrap leads to Seal, where the inner switcher has it.
func (h *Holding) Unwrap() any { return h.extra }

// Active returns what the inner switcher says: it decides. Within the gap of a switch of this Holding it waits for the end of that.
func (h *Holding) Active(ctx context.Context) (string, error) {
	name, err := h.cfg.Inner.Active(ctx)
	if !errors.Is(err, abswap.ErrNoActive) && !errors.Is(err, abswap.ErrMixed) {
		return name, err
	}
	if err := h.turn.Take(ctx); err != nil {
		return "", err
	}
	defer h.turn.Give()
	return h.cfg.Inner.Active(ctx)
}

// Traits are those of the inner switcher, but that there is no gap; that it is decided per request, since requests begin on fresh connections
// after a switch; and that no client connection is closed. What the proxy would forget is forgotten too.
func (h *Holding) Traits() abswap.Traits {
	var t abswap.Traits
	if in, ok := abswap.As[abswap.TraitsSwitcher](h.cfg.Inner); ok {
		t = in.Traits()
	}
	t.Gap, t.PerConnection, t.ClosesIdle = false, false, false
	t.Forgets = t.Forgets || h.cfg.Front.Traits().Forgets
	return t
}

// Activate switches the inner switcher to s while new requests wait, as the type says. At return none waits. Its errors are those of the
// inner switcher, with what they say of the outcome; one that could not hold, or that ended while requests were still on their way, has
// changed nothing. When the inner switch is in force and the proxy could not be told of it, the error wraps ErrUnknownOutcome: requests are
// answered by s, and their counts are unknown until Activate or Follow succeeds.
//
// From a call of Hold until its release Activate works under that hold and takes none of its own.
func (h *Holding) Activate(ctx context.Context, s abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.has(s); err != nil {
		return err
	}
	if _, err := h.cfg.Front.InFlight(ctx, h.gate(s)); err != nil { // it must know the slot, and answer
		return fmt.Errorf("proxy: holding: activate slot %q: nothing changed: %w", s.Name(), err)
	}
	if err := h.under(ctx, s, func(ctx context.Context) error { return h.cfg.Inner.Activate(ctx, s) }); err != nil {
		return fmt.Errorf("proxy: holding: activate slot %q: %w", s.Name(), err)
	}
	return nil
}

// has returns an error if there is no such slot.
func (h *Holding) has(s abswap.Slot) error {
	if s == nil {
		return errors.New("proxy: holding: the slot is nil")
	}
	if h.slots[s.Name()] == nil {
		return fmt.Errorf("proxy: holding: slot %q is not in HoldingConfig.Slots: %w", s.Name(), abswap.ErrUnknownSlot)
	}
	return nil
}

// under moves the inner switcher by move while requests wait. to is the slot that is active then; nil: the inner switcher is asked.
func (h *Holding) under(ctx context.Context, to abswap.Slot, move func(context.Context) error) error {
	if err := h.turn.Take(ctx); err != nil {
		return err
	}
	defer h.turn.Give()
	if err := h.compare(ctx); err != nil {
		return fmt.Errorf("nothing changed: %w", err)
	}
	h.moving.Store(true)
	defer h.moving.Store(false)
	from, err := h.cfg.Front.Active(ctx)
	if err != nil && !errors.Is(err, abswap.ErrNoActive) {
		return fmt.Errorf("nothing changed: asking the proxy in front: %w", err)
	}
	seen, began := HeldSwitch{From: from}, time.Now()
	release, passes, ends, err := h.hold(ctx, began)
	if err != nil {
		return fmt.Errorf("nothing changed: requests cannot be held: %w", err)
	}
	defer func() {
		if h.cfg.OnSwitch != nil {
			h.cfg.OnSwitch(seen)
		}
	}()
	defer func() { seen.Held = time.Since(began) }()
	defer release()
	if seen.Err = h.settle(ctx, from, &seen); seen.Err != nil {
		seen.To = from
		return fmt.Errorf("nothing changed: waiting for requests on their way: %w", seen.Err)
	}
	seen.Err = move(ctx)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), landing)
	defer cancel()
	seen.Expired = !time.Now().Before(ends)
	name, err := h.land(after, to, seen.Err, func(err error) {
		seen.Expired = true
		release()
		if errors.Is(err, errNoHold) {
			h.dropOwn()
		}
	})
	seen.To = name
	if seen.Expired || passes {
		h.mislaid(false) // what came meanwhile may have gone to either
	}
	if err != nil {
		seen.Err = multi.Join(seen.Err, err)
	}
	return seen.Err
}

// hold takes a hold, or makes use of the one that a caller has asked for. It lasts until ends, if it is not lost.
func (h *Holding) hold(ctx context.Context, now time.Time) (release func(), passes bool, ends time.Time, err error) {
	release, err = h.cfg.Front.Hold(ctx, h.cfg.Hold)
	if err == nil {
		return release, false, now.Add(h.cfg.Hold.Total), nil
	}
	h.mu.Lock()
	own := h.own
	h.mu.Unlock()
	if own != nil && time.Now().Before(own.ends) && errors.Is(err, abswap.ErrBusy) {
		return func() {}, own.passes, own.ends, nil
	}
	return nil, false, ends, err
}

// dropOwn releases the hold that a caller has asked for and that the front has lost: else a *Client goes on to give its orders under that.
func (h *Holding) dropOwn() {
	h.mu.Lock()
	own := h.own
	h.own = nil
	h.mu.Unlock()
	if own != nil {
		own.letGo()
	}
}

// land tells the front whose requests come from now on: those of to if the move went well, else of whoever is active. It calls lost if the front
// refuses what shall be done under the hold.
func (h *Holding) land(ctx context.Context, to abswap.Slot, moved error, lost func(error)) (string, error) {
	g := h.gate(to)
	if moved != nil || to == nil {
		name, err := h.cfg.Inner.Active(ctx)
		if err != nil {
			h.mislaid(true)
			if moved != nil || errors.Is(err, abswap.ErrNoActive) {
				return "", nil // the move's error says more; and nobody takes work that could be counted
			}
			return "", fmt.Errorf("who is active now: %w", err)
		}
		g = h.named(name)
	}
	g.started = time.Now()
	err := h.cfg.Front.Activate(ctx, g)
	if err != nil {
		lost(err)
		err = h.cfg.Front.Activate(ctx, g)
	}
	if err != nil {
		h.mislaid(true)
		return "", fmt.Errorf("%w: slot %q is active behind the proxy, which counts for another one, since it could not be told: %w",
			abswap.ErrUnknownOutcome, g.name, err)
	}
	h.found()
	return g.name, nil
}

// Follow makes the proxy count for the slot that the inner switcher has active now, and send it requests if it sent them nowhere. It moves
// nothing behind it. Call it before the front serves, and after somebody else has moved the inner switcher. The error is that of Active, or
// the proxy's.
func (h *Holding) Follow(ctx context.Context) error {
	if err := h.turn.Take(ctx); err != nil {
		return err
	}
	defer h.turn.Give()
	name, err := h.cfg.Inner.Active(ctx)
	if err != nil {
		return fmt.Errorf("proxy: holding: follow: who is active: %w", err)
	}
	now, err := h.cfg.Front.Active(ctx)
	if err == nil && now == name && !h.wrong() {
		return nil
	}
	if err == nil {
		h.mislaid(true)
	} else if !errors.Is(err, abswap.ErrNoActive) {
		return fmt.Errorf("proxy: holding: follow: %w", err)
	}
	g := h.named(name)
	g.started = time.Now()
	if err := h.cfg.Front.Activate(ctx, g); err != nil {
		return fmt.Errorf("proxy: holding: follow to slot %q: %w", name, err)
	}
	h.found()
	return nil
}

// Hold makes new requests wait at the proxy, as that does. Activate works under it.
func (h *Holding) Hold(ctx context.Context, o abswap.HoldOptions) (release func(), err error) {
	own := &ownHold{passes: o.Beyond == abswap.HoldPass, ends: time.Now().Add(o.WithDefaults().Total)}
	letGo, err := h.cfg.Front.Hold(ctx, o)
	if err != nil {
		return nil, err
	}
	own.letGo = letGo
	h.mu.Lock()
	h.own = own
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		if h.own == own {
			h.own = nil
		}
		h.mu.Unlock()
		letGo()
	}, nil
}

// Check finds what keeps a switch from being without loss: all that the inner switcher and the proxy find, a proxy that follows nobody, and
// what a swap asks for that a Holding cannot do.
func (h *Holding) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("proxy: holding: "+format, args...))
	}
	if len(r.Steps) > 0 {
		bad("steps %v: the slots share one front door behind the proxy, so all work goes to one of them: %w", r.Steps, errors.ErrUnsupported)
	}
	if h.cfg.Drainer == nil {
		errs = append(errs, abswap.Warnf("proxy: holding: %T does not count what the slots carry: what does not come through the proxy is not seen",
			h.cfg.Inner))
	}
	now, err := h.cfg.Front.Active(ctx)
	switch {
	case errors.Is(err, abswap.ErrNoActive):
		bad("the proxy sends requests nowhere: call Follow before it serves: %w", err)
	case err != nil:
		bad("asking the proxy in front: %w", err)
	default:
		if name, err := h.cfg.Inner.Active(ctx); err == nil && name != now {
			errs = append(errs, abswap.Warnf("proxy: holding: slot %q is active, and the proxy counts for %q: somebody else has moved %T; call Follow",
				name, now, h.cfg.Inner))
		}
	}
	if c, ok := abswap.As[abswap.Checker](h.cfg.Inner); ok {
		errs = append(errs, c.Check(ctx, r))
	}
	gates := r
	gates.Slots, gates.Steps = nil, nil
	for _, s := range r.Slots {
		if s == nil {
			bad("a slot is nil")
			continue
		}
		gates.Slots = append(gates.Slots, h.gate(s))
	}
	errs = append(errs, h.cfg.Front.Check(ctx, gates))
	return multi.Join(errs...)
}

// through hides the Unwrap of a Holding, so that looking for an ability comes to an end.
type through struct{ h *Holding }

func (t *through) Active(ctx context.Context) (string, error) { return t.h.Active(ctx) }

func (t *through) Activate(ctx context.Context, s abswap.Slot) error { return t.h.Activate(ctx, s) }

// sealable is a Holding of a switcher that can seal.
type sealable struct {
	*through
	inner abswap.SealingSwitcher
}

// Seal seals s in the inner switcher while new requests wait. If s was active the proxy goes on to send requests to the inner front door, which
// answers them as it likes.
func (x sealable) Seal(ctx context.Context, s abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := x.h.has(s); err != nil {
		return err
	}
	if err := x.h.under(ctx, nil, func(ctx context.Context) error { return x.inner.Seal(ctx, s) }); err != nil {
		return fmt.Errorf("proxy: holding: seal slot %q: %w", s.Name(), err)
	}
	return nil
}

// gate is a slot as the proxy sees it: at the front door of the inner switcher, and new with each switch, so that requests go there on fresh
// connections and are counted apart from earlier ones.
type gate struct {
	name, address string
	slot          abswap.Slot // nil: only its name is known
	started       time.Time
}

func (h *Holding) gate(s abswap.Slot) gate {
	if s == nil {
		return gate{address: h.cfg.Address}
	}
	return gate{name: s.Name(), address: h.cfg.Address, slot: s}
}

func (h *Holding) named(name string) gate {
	return gate{name: name, address: h.cfg.Address, slot: h.slots[name]}
}

// Name returns the name of the slot.
func (g gate) Name() string { return g.name }

// Ready asks the slot itself.
func (g gate) Ready(ctx context.Context) error {
	if g.slot == nil {
		return nil
	}
	return g.slot.Ready(ctx)
}

// Inspect tells the slot's release, and the address of the inner front door.
func (g gate) Inspect(ctx context.Context) (abswap.SlotState, error) {
	st := abswap.SlotState{Running: true, Address: g.address, Started: g.started}
	if in, ok := abswap.As[abswap.InspectingSlot](g.slot); ok {
		if now, err := in.Inspect(ctx); err == nil { // it only names the answers
			st.Release = now.Release
		}
	}
	return st, nil
}
