package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// content is an endless stream of bytes that both ends can make from the same seed, so that each can check what the other sent.
func content(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// itemText is what the application answers for item n, and what the client expects.
func itemText(n int) string {
	return fmt.Sprintf("item %d\n%s\n", n, strings.Repeat("all work and no downtime ", n%80))
}

// slowly hands out the first size bytes of src evenly over a time, as a thin line would.
type slowly struct {
	ctx   context.Context // ends the waiting
	src   io.Reader
	size  int64
	over  time.Duration
	given int64
	start time.Time
}

// slowChunk is the most that one Read of a slowly gives.
const slowChunk = 16 << 10

func (s *slowly) Read(p []byte) (int, error) {
	if s.start.IsZero() {
		s.start = time.Now()
	}
	if s.given == s.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), slowChunk, s.size-s.given)
	due := s.start.Add(time.Duration(float64(s.over) * float64(s.given+n) / float64(s.size)))
	if err := pause(s.ctx, time.Until(due)); err != nil {
		return 0, err
	}
	got, err := s.src.Read(p[:n])
	s.given += int64(got)
	return got, err
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
