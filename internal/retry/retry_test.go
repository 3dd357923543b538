package retry_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/internal/retry"
)

func TestDoOutlivesTheLibrarysFifteenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := retry.Do(t.Context(), retry.Policy{}, func(context.Context) error {
			if time.Since(start) < 3*time.Hour {
				return io.EOF
			}
			return nil
		})
		assert.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(start), 3*time.Hour)
	})
}

func TestPausesRiseToTheMaximum(t *testing.T) {
	next := retry.Policy{First: 100 * time.Millisecond, Max: 300 * time.Millisecond}.Pauses()
	assert.Equal(t, []time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 225 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond},
		[]time.Duration{next(), next(), next(), next(), next()})
}

func TestDoReportsTheLastFailureBesideTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("operator asked")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		err := retry.Do(ctx, retry.Policy{}, func(context.Context) error { return io.ErrUnexpectedEOF })
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, "operator asked; last: unexpected EOF", err.Error())
	})
}

func TestDoReportsWhatWasThereBeforeTheLastTryWasBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tooLate := errors.New("not so after a minute")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, tooLate)
		defer cancel()
		first := true
		err := retry.Do(ctx, retry.Policy{}, func(ctx context.Context) error {
			if first {
				first = false
				return io.ErrUnexpectedEOF
			}
			<-ctx.Done()
			return ctx.Err()
		})
		assert.ErrorIs(t, err, tooLate)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, "not so after a minute; last: context deadline exceeded; before that: unexpected EOF", err.Error())
	})
}

func TestStopEndsItAtOnce(t *testing.T) {
	n := 0
	err := retry.Do(t.Context(), retry.Policy{}, func(context.Context) error { n++; return retry.Stop(io.EOF) })
	assert.Equal(t, io.EOF, err)
	assert.Equal(t, 1, n)
	assert.NoError(t, retry.Stop(nil))
}
