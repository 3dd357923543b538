package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	posters   = 16
	uploaders = 8
	streams   = 20 // of each kind

	uploadPieces = 15 // of 1.5 s
	uploadPause  = 100 * time.Millisecond
)

// options say how long and how hard.
type options struct {
	switches int
	every    time.Duration
	pause    time.Duration // between two POSTs of a client
}

// result is what clients have seen.
type result struct {
	switches               int
	posts, failed, late    int64
	uploads, uploadsFailed int64
	talksKilled            int64
	eventsKilled           int64
	slowest                time.Duration // switch call
	samples                []error       // some of what failed
}

// lost is all that should be 0.
func (r result) lost() int64 {
	return r.failed + r.late + r.uploadsFailed + r.talksKilled + r.eventsKilled
}

const tableHead = "| front door | switches | POST ok | POST failed | answered by the old slot after the switch returned | uploads failed | WebSockets killed | SSE killed | slowest switch call |\n" +
	"|---|---|---|---|---|---|---|---|---|\n"

func (r result) row(title string) string {
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d of %d | %d of %d | %d of %d | %s |", title, r.switches, r.posts, r.failed, r.late,
		r.uploadsFailed, r.uploads, r.talksKilled, streams, r.eventsKilled, streams, r.slowest.Round(10*time.Microsecond))
}

// sampler keeps the first few errors.
type sampler struct {
	mu   sync.Mutex
	errs []error
}

func (s *sampler) add(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) < 5 {
		s.errs = append(s.errs, err)
	}
}

// measure opens the front door of a row, lets clients loose on it and switches.
func measure(r row, o options) (res result, err error) {
	dir, err := os.MkdirTemp("", "losses")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	a, addrA, err := startApp("a")
	if err != nil {
		return res, err
	}
	defer a.Close()
	b, addrB, err := startApp("b")
	if err != nil {
		return res, err
	}
	defer b.Close()
	d, err := r.open(addrA, addrB, dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, d.close()) }()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var (
		all                             sync.WaitGroup
		posts, failed, late             atomic.Int64
		uploads, upFailed, talks, feeds atomic.Int64
		failures                        sampler
		// epoch is 2n when the nth switch has returned and 2n+1 when the next one has begun: with 2n a request that begins belongs to slot a if n
		// is even, and if it is the same when the answer is there, nothing else is right.
		epoch atomic.Int64
	)
	each := func(n int, f func(c caller)) {
		for range n {
			all.Go(func() {
				c := r.call(d.addr)
				defer c.close()
				f(c)
			})
		}
	}
	lasting := func(what string, killed *atomic.Int64, f func(c caller) error) {
		each(streams, func(c caller) {
			if err := f(c); err != nil {
				killed.Add(1)
				failures.add(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	lasting("websocket", &talks, func(c caller) error { return c.talk(ctx) })
	lasting("events", &feeds, func(c caller) error { return c.events(ctx) })
	each(uploaders, func(c caller) {
		for ctx.Err() == nil {
			uploads.Add(1)
			if err := c.upload(uploadPieces, uploadPause); err != nil {
				upFailed.Add(1)
				failures.add(fmt.Errorf("upload: %w", err))
			}
		}
	})
	each(posters, func(c caller) {
		for n := 0; ctx.Err() == nil; n++ {
			before := epoch.Load()
			slot, err := c.post(fmt.Sprintf("body %d", n))
			if err != nil {
				failed.Add(1)
				failures.add(fmt.Errorf("POST: %w", err))
				time.Sleep(10 * time.Millisecond) // a door that is shut is not to be hammered at
				continue
			}
			posts.Add(1)
			if want := slotOf(before / 2); before%2 == 0 && before == epoch.Load() && slot != want {
				late.Add(1)
				failures.add(fmt.Errorf("POST: answered by slot %s while %s has the work", slot, want))
			}
			time.Sleep(o.pause)
		}
	})

	time.Sleep(o.every)
	var slowest time.Duration
	for n := range int64(o.switches) {
		epoch.Add(1)
		began := time.Now()
		if err := d.swap(slotOf(n + 1)); err != nil {
			return res, err
		}
		slowest = max(slowest, time.Since(began))
		epoch.Add(1)
		time.Sleep(o.every)
	}
	stop()
	all.Wait()
	return result{o.switches, posts.Load(), failed.Load(), late.Load(), uploads.Load(), upFailed.Load(), talks.Load(), feeds.Load(), slowest, failures.errs}, nil
}

// slotOf is the slot that has the work behind the nth switch.
func slotOf(n int64) string {
	if n%2 == 0 {
		return "a"
	}
	return "b"
}
