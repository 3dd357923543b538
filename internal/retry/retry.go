// Package retry calls a function again until it succeeds. It is the one place that knows backoff/v4: that library gives up after 15
// minutes unless told otherwise, and reports either the last failure or the context's, not both.
package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Policy says how long to pause between tries: from First, half as long again each time, to Max. Zero values: 250ms and 2s.
type Policy struct{ First, Max time.Duration }

// Pauses returns a function that gives the pauses of p, one after the other, without jitter: there is one caller, nobody to collide with.
func (p Policy) Pauses() func() time.Duration {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(or(p.First, 250*time.Millisecond)),
		backoff.WithMaxInterval(or(p.Max, 2*time.Second)),
		backoff.WithMultiplier(1.5),
		backoff.WithRandomizationFactor(0),
		backoff.WithMaxElapsedTime(0))
	return b.NextBackOff
}

// Do calls f until it returns nil, an error made by Stop, or ctx ends. When ctx ends the error wraps ctx's cause and the last failure of f;
// where that is only that ctx has ended, also the one before it, which says more.
func Do(ctx context.Context, p Policy, f func(context.Context) error) error {
	pause := p.Pauses()
	var before error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if s, ok := errors.AsType[*stop](err); ok {
			return s.err
		}
		if before != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			err = fmt.Errorf("%w; before that: %w", err, before)
		}
		if werr := Sleep(ctx, pause()); werr != nil {
			if errors.Is(err, werr) {
				return err
			}
			return fmt.Errorf("%w; last: %w", werr, err)
		}
		before = err
	}
}

// Sleep waits for d; if ctx ends first it returns ctx's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop marks err as final: Do returns it at once.
func Stop(err error) error {
	if err == nil {
		return nil
	}
	return &stop{err}
}

type stop struct{ err error }

func (s *stop) Error() string { return s.err.Error() }
func (s *stop) Unwrap() error { return s.err }

func or(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
