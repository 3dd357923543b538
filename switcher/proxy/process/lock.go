package process

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/abswap/abswap/internal/filelock"
)

// lock waits until this call is the only one, of this and all other processes, that changes the slot. The lock is the system's on an
// open file: it dies with its process. A process that is just being started holds it too if its starter dies, until it is past its exec.
func (s *Slot) lock(ctx context.Context) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, s.errorf("%w", context.Cause(ctx))
	}
	f, err := filelock.Wait(ctx, filepath.Join(s.cfg.Dir, "lock"), 0o600)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, s.errorf("another call is at work in the slot: %w", err)
	}
	if err != nil {
		return nil, s.errorf("its lock: %w", err)
	}
	return f.Close, nil
}
