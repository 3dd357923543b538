package arr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// HealthFileConfig says which files are written.
type HealthFileConfig struct {
	// Slots are the health files of the slots' members, by slot name. The farm's healthCheck.url leads to the file of each member, and its
	// responseMatch is Up. At least two slots; required.
	Slots map[string][]string

	// Ask asks the front door, as a client does, which slot answers. It is the only evidence that there is. Required.
	Ask  func(ctx context.Context) (slot string, err error)
	Asks int // answers running that prove a switch; 0: 10

	Interval time.Duration // of the farm's health test; 0: 1s
	Timeout  time.Duration // of one test; 0: 5s
	Patience time.Duration // how long a switch may take beyond that; 0: 60s
	Up, Down string        // contents; "": up and down. Up must not be in Down
}

// HealthFile is a Switcher that needs no privilege and no call: it writes "up" into the health files of the new members, waits until they answer at
// the front door, and only then "down" into those of the old ones. What old members have in work goes on. A switch takes twice the interval and
// the time-out of the health test; in between both slots take requests. It has no counters: the Drainer is somebody else's.
type HealthFile struct {
	cfg  HealthFileConfig
	turn chan struct{}
}

var (
	_ abswap.Switcher = (*HealthFile)(nil)
	_ abswap.Checker  = (*HealthFile)(nil)
)

// NewHealthFile returns the switcher that cfg describes. The error tells all mistakes in cfg. It reads no file.
func NewHealthFile(cfg HealthFileConfig) (*HealthFile, error) {
	var errs []error
	if len(cfg.Slots) < 2 {
		errs = append(errs, fmt.Errorf("it has %d Slots, at least two are needed", len(cfg.Slots)))
	}
	owner := map[string]string{}
	for name, files := range cfg.Slots {
		if name == "" || len(files) == 0 {
			errs = append(errs, fmt.Errorf("slot %q has no name or no files", name))
		}
		for _, f := range files {
			if other, ok := owner[f]; ok || f == "" {
				errs = append(errs, fmt.Errorf("file %q is of slot %q and of slot %q, or has no name", f, other, name))
			}
			owner[f] = name
		}
	}
	if cfg.Ask == nil {
		errs = append(errs, errors.New("the function Ask is nil: nobody could see whether a switch is in force"))
	}
	if cfg.Up == "" {
		cfg.Up = "up"
	}
	if cfg.Down == "" {
		cfg.Down = "down"
	}
	if strings.Contains(cfg.Down, cfg.Up) {
		errs = append(errs, fmt.Errorf("text Down %q contains Up %q, which is what the health test looks for", cfg.Down, cfg.Up))
	}
	if cfg.Asks <= 0 {
		cfg.Asks = 10
	}
	for _, d := range []struct {
		at   *time.Duration
		zero time.Duration
	}{{&cfg.Interval, time.Second}, {&cfg.Timeout, 5 * time.Second}, {&cfg.Patience, time.Minute}} {
		if *d.at < 0 {
			errs = append(errs, fmt.Errorf("a duration is %s", *d.at))
		}
		if *d.at == 0 {
			*d.at = d.zero
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("arr health file: %w", err)
	}
	h := &HealthFile{cfg: cfg, turn: make(chan struct{}, 1)}
	h.turn <- struct{}{}
	return h, nil
}

// up lists the slots of which a file says Up, in a fixed order, and those of which all do.
func (h *HealthFile) up() (some, all []string, err error) {
	var names []string
	for name := range h.cfg.Slots {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := 0
		for _, f := range h.cfg.Slots[name] {
			yes, err := h.saysUp(f)
			if err != nil {
				return nil, nil, err
			}
			if yes {
				n++
			}
		}
		if n > 0 {
			some = append(some, name)
		}
		if n == len(h.cfg.Slots[name]) {
			all = append(all, name)
		}
	}
	return some, all, nil
}

// saysUp tells whether a file says Up; one that is not there does not.
func (h *HealthFile) saysUp(file string) (bool, error) {
	data, err := atomicfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.Contains(string(data), h.cfg.Up), err
}

// Active returns the slot whose files say Up: what the farm follows within one interval. A switch that this HealthFile is just making is waited
// for: in the middle of it two slots are up.
func (h *HealthFile) Active(ctx context.Context) (string, error) {
	select {
	case <-h.turn:
		defer func() { h.turn <- struct{}{} }()
	case <-ctx.Done():
		return "", fmt.Errorf("arr health file: %w", context.Cause(ctx))
	}
	some, _, err := h.up()
	switch {
	case err != nil:
		return "", fmt.Errorf("arr health file: %w", err)
	case len(some) == 0:
		return "", fmt.Errorf("arr health file: %w", abswap.ErrNoActive)
	case len(some) > 1:
		return some[0], fmt.Errorf("arr health file: %q: %w", some, abswap.ErrMixed)
	}
	return some[0], nil
}

// Activate switches as HealthFile says. Members that do not come to answer at the front door are put down again, but for those that were up
// before: nothing has changed then. Where the files say so already, also by an Activate that could not see it in force, it only waits for that.
func (h *HealthFile) Activate(ctx context.Context, s abswap.Slot) error {
	if s == nil || h.cfg.Slots[s.Name()] == nil {
		return fmt.Errorf("arr health file: activate: %w", abswap.ErrUnknownSlot)
	}
	name := s.Name()
	if ctx.Err() != nil {
		return fmt.Errorf("arr health file: activate slot %q: %w", name, context.Cause(ctx))
	}
	select {
	case <-h.turn:
		defer func() { h.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("arr health file: activate slot %q: %w", name, context.Cause(ctx))
	}
	some, all, err := h.up()
	if err == nil && slices.Equal(some, []string{name}) && slices.Equal(all, some) { // it is so; perhaps since a moment ago, and not in force yet
		if err := h.proof(ctx, name); err != nil {
			return fmt.Errorf("arr health file: activate slot %q: %w: %w", name, abswap.ErrUnknownOutcome, err)
		}
		return nil
	}
	if err == nil { // from here on the switch is finished, whatever becomes of ctx: in the middle of it two versions take requests
		limit := 3*(h.cfg.Interval+h.cfg.Timeout) + 2*h.cfg.Patience
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("not in force after %s", limit))
		defer cancel()
		err = h.shift(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("arr health file: activate slot %q: %w", name, err)
	}
	return nil
}

func (h *HealthFile) shift(ctx context.Context, name string) error {
	var down []string // the others are up already, and may be all that serves
	for _, f := range h.cfg.Slots[name] {
		yes, err := h.saysUp(f)
		if err != nil {
			return err
		}
		if !yes {
			down = append(down, f)
		}
	}
	err := write(down, h.cfg.Up)
	if err == nil {
		err = h.answers(ctx, 1, name)
	}
	if err != nil {
		err = fmt.Errorf("its members do not come to answer at the front door: %w: %w", abswap.ErrNotReady, err)
		return multi.Join(err, write(down, h.cfg.Down))
	}
	if err := retry.Sleep(ctx, h.cfg.Interval+h.cfg.Timeout); err != nil { // the other members of the slot
		return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
	}
	for other := range h.cfg.Slots {
		if other != name {
			err = multi.Join(err, write(h.cfg.Slots[other], h.cfg.Down))
		}
	}
	if err == nil {
		err = h.proof(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
	}
	return nil
}

// proof waits until a health test has seen what the files say, and the slot has answered as often as a switch wants it.
func (h *HealthFile) proof(ctx context.Context, name string) error {
	if err := retry.Sleep(ctx, h.cfg.Interval+h.cfg.Timeout); err != nil {
		return err
	}
	return h.answers(ctx, h.cfg.Asks, name)
}

// write puts text into all files.
func write(files []string, text string) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, atomicfile.Write(f, []byte(text+"\n"), 0o644))
	}
	return multi.Join(errs...)
}

// answers waits until the slot has answered n times running: if n is 1, until it has answered once.
func (h *HealthFile) answers(ctx context.Context, n int, name string) error {
	limit := h.cfg.Interval + h.cfg.Timeout + h.cfg.Patience
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not so after %s", limit))
	defer cancel()
	return retry.Do(ctx, retry.Policy{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, func(ctx context.Context) error {
		for range n {
			slot, err := h.cfg.Ask(ctx)
			if err != nil {
				return fmt.Errorf("front door: %w", err)
			}
			if slot != name {
				return fmt.Errorf("the front door is answered by slot %q", slot)
			}
		}
		return nil
	})
}

// Check wants the files to be readable, one slot to be up, and the front door to be answered by it.
func (h *HealthFile) Check(ctx context.Context, r abswap.CheckRequest) error {
	var errs []error
	for _, s := range r.Slots {
		if h.cfg.Slots[s.Name()] == nil {
			errs = append(errs, fmt.Errorf("arr health file: the Swapper has slot %q: %w", s.Name(), abswap.ErrUnknownSlot))
		}
	}
	if len(r.Steps) > 0 {
		errs = append(errs, fmt.Errorf("arr health file: steps %v: a health file knows no weights: %w", r.Steps, errors.ErrUnsupported))
	}
	active, err := h.Active(ctx)
	if errors.Is(err, abswap.ErrNoActive) {
		return multi.Join(append(errs, abswap.Warnf("%w", err))...)
	}
	if err == nil {
		var slot string
		if slot, err = h.cfg.Ask(ctx); err == nil && slot != active {
			err = fmt.Errorf("arr health file: the files say that slot %q is active, and the front door is answered by %q", active, slot)
		}
	}
	return multi.Join(append(errs, err)...)
}
