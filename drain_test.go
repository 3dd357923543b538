package abswap_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// counts is a Drainer that reads off a script: one Load, or error, a reading; the last one stays.
type counts struct {
	loads []abswap.Load
	errs  map[int]error // by the number of the reading, from 0
	n     int
}

func (c *counts) InFlight(context.Context, abswap.Slot) (abswap.Load, error) {
	i := c.n
	c.n++
	if err := c.errs[i]; err != nil {
		return abswap.Load{}, err
	}
	return c.loads[min(i, len(c.loads)-1)], nil
}

var blue = fake.NewSlot("blue")

func exact(n int) abswap.Load {
	return abswap.Load{Requests: n, Evidence: abswap.EvidenceExact}
}

func approx(n int) abswap.Load {
	return abswap.Load{Requests: n, Evidence: abswap.EvidenceApproximate}
}

func TestDrainOfATwoHourUpload(t *testing.T) {
	wall := time.Now()
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		require.NoError(t, sw.Activate(t.Context(), blue))
		_, end := sw.Begin() // one upload in blue
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
		time.AfterFunc(2*time.Hour, end) // two hours pass in milliseconds
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{})
		require.NoError(t, err)
		assert.True(t, res.Drained)
		assert.Equal(t, 2*time.Hour, res.Waited, "told at once, not at the next reading")
	})
	assert.Less(t, time.Since(wall), 10*time.Second)
}

func TestD2ExactCountIsDrainedAtTheFirstZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counts{loads: []abswap.Load{exact(2), exact(1), exact(0)}}
		res, err := abswap.Drain(t.Context(), c, blue, abswap.DrainOptions{})
		require.NoError(t, err)
		assert.Equal(t, 3, res.Readings)
		assert.Equal(t, 2, res.Finished)
	})
}

func TestD2ApproximateCountNeedsUnbrokenZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counts{loads: []abswap.Load{approx(0), approx(0), approx(0), approx(1), approx(0)}}
		began := time.Now()
		res, err := abswap.Drain(t.Context(), c, blue, abswap.DrainOptions{})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, res.Readings, 4+5, "the run began anew after the 1")
		assert.GreaterOrEqual(t, time.Since(began), 5*time.Second)
		assert.Equal(t, abswap.EvidenceApproximate, res.Last.Evidence)
	})
}

func TestD2AReadingThatFailsBreaksTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counts{loads: []abswap.Load{approx(0)}, errs: map[int]error{4: errors.New("out of reach")}}
		res, err := abswap.Drain(t.Context(), c, blue, abswap.DrainOptions{Quiet: time.Second})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, res.Readings, 5+5)
	})
}

func TestD2UnknownEvidenceIsNeverDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counts{loads: []abswap.Load{{}}}
		res, err := abswap.Drain(t.Context(), c, blue, abswap.DrainOptions{Timeout: 24 * time.Hour})
		assert.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.False(t, res.Drained)
	})
}

func TestD3TheDeadlineIsAPolicy(t *testing.T) {
	start := func(t *testing.T) (*fake.Switcher, func()) {
		sw := &fake.Switcher{}
		require.NoError(t, sw.Activate(t.Context(), blue))
		_, end := sw.Begin()
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
		return sw, end
	}
	t.Run("leave up is the default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sw, end := start(t)
			defer end()
			res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute})
			assert.ErrorIs(t, err, abswap.ErrDrainTimeout)
			de, ok := errors.AsType[*abswap.DrainError](err)
			require.True(t, ok)
			require.Len(t, de.Result.Left, 1)
			assert.Equal(t, time.Minute, res.Left[0].Age)
			assert.Empty(t, sw.Calls("Force"))
			assert.Contains(t, err.Error(), `drain of slot "blue" after 1m0s: drain timed out: 1 requests`)
		})
	})
	t.Run("keep waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sw, end := start(t)
			time.AfterFunc(time.Hour, end)
			res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute, AtDeadline: abswap.KeepWaiting})
			require.NoError(t, err)
			assert.Equal(t, time.Hour, res.Waited)
		})
	})
	t.Run("hand over, and then leave up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sw, end := start(t)
			defer end()
			res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute, AtDeadline: abswap.HandOver})
			assert.ErrorIs(t, err, abswap.ErrDrainTimeout)
			assert.Equal(t, []string{"hand over"}, res.Forced)
			assert.Equal(t, 90*time.Second, res.Waited)
		})
	})
	t.Run("cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sw, end := start(t)
			defer end()
			res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute, AtDeadline: abswap.CutOff, Grace: time.Second})
			require.NoError(t, err)
			assert.Equal(t, []string{"hand over", "cut"}, res.Forced)
			assert.Equal(t, 1, res.Cut)
			assert.Zero(t, res.Finished)
		})
	})
	t.Run("cut where nothing can cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sw, end := start(t)
			defer end()
			_, err := abswap.Drain(t.Context(), fake.BareDrainer(sw), blue, abswap.DrainOptions{Timeout: time.Minute, AtDeadline: abswap.CutOff})
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorIs(t, err, abswap.ErrDrainTimeout)
		})
	})
}

func TestD4DrainWaitsForSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		require.NoError(t, sw.Activate(t.Context(), blue))
		s, err := sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
		time.AfterFunc(time.Hour, s.End)
		_, err = abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{})
		require.NoError(t, err, "not asked for")
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Sessions: true})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, res.Waited, time.Hour)
		_, err = abswap.Drain(t.Context(), fake.BareDrainer(sw), blue, abswap.DrainOptions{Sessions: true})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// deaf is a Drainer that does not answer.
type deaf struct{ abswap.ClassDrainer }

func (deaf) InFlight(ctx context.Context, _ abswap.Slot) (abswap.Load, error) {
	<-ctx.Done()
	return abswap.Load{}, context.Cause(ctx)
}

func (deaf) List(ctx context.Context, _ abswap.Slot, _ int) ([]abswap.Work, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestD3TheDeadlineWaitsForNoReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := abswap.Drain(t.Context(), deaf{}, blue, abswap.DrainOptions{Timeout: time.Hour})
		require.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "why")
		assert.InDelta(t, time.Hour, time.Since(start), float64(time.Minute))
	})
}

func TestDrainEndsWithItsContextAndOnWhatCannotGetBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		res, err := abswap.Drain(ctx, &counts{loads: []abswap.Load{exact(3)}}, blue, abswap.DrainOptions{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 3, res.Last.Requests)

		_, err = abswap.Drain(t.Context(), &fake.Switcher{}, fake.NewSlot("mauve"), abswap.DrainOptions{})
		assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
		_, err = abswap.Drain(t.Context(), nil, blue, abswap.DrainOptions{})
		assert.ErrorIs(t, err, abswap.ErrPermanent)
	})
}

func TestManyDrainsOfOneSlotAllWaitAndAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		require.NoError(t, sw.Activate(t.Context(), blue))
		_, end := sw.Begin()
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
		results := make(chan abswap.DrainResult)
		for range 10 {
			go func() {
				res, err := abswap.Drain(context.Background(), sw, blue, abswap.DrainOptions{})
				assert.NoError(t, err)
				results <- res
			}()
		}
		synctest.Wait()
		select {
		case <-results:
			t.Fatal("a drain returned with work in flight")
		default:
		}
		end()
		for range 10 {
			assert.True(t, (<-results).Drained)
		}
	})
}

func TestBothTrustsNeitherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &counts{loads: []abswap.Load{exact(0)}}
		b := &counts{loads: []abswap.Load{approx(2), approx(0)}}
		res, err := abswap.Drain(t.Context(), abswap.Both(a, b), blue, abswap.DrainOptions{})
		require.NoError(t, err)
		assert.Equal(t, abswap.EvidenceApproximate, res.Last.Evidence, "the weaker of the two")
		assert.GreaterOrEqual(t, res.Waited, 5*time.Second)

		boom := errors.New("out of reach")
		_, err = abswap.Both(a, &counts{errs: map[int]error{0: boom}}).InFlight(t.Context(), blue)
		assert.ErrorIs(t, err, boom)
		_, ok := abswap.As[abswap.ForcingDrainer](abswap.Both(&fake.Switcher{}, b))
		assert.True(t, ok, "abilities are the first one's")
	})
}

func TestDrainWithADeadlineThatNobodyLivesToSee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		require.NoError(t, sw.Activate(t.Context(), blue))
		_, end := sw.Begin()
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
		time.AfterFunc(time.Hour, end)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		res, err := abswap.Drain(ctx, sw, blue, abswap.DrainOptions{Deadline: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)})
		require.NoError(t, err)
		assert.Equal(t, 1, res.First.Requests)
	})
}
