package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// errLocked is what tryLock returns when somebody else holds the lock.
var errLocked = errors.New("another call is at work in the slot")

// lock waits until this call is the only one, of this and all other processes, that changes the slot. The lock is the system's on an
// open file: it dies with its process. A process that is just being started holds it too, until it is past its exec.
func (s *Slot) lock(ctx context.Context) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, s.errorf("%w", context.Cause(ctx))
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, s.errorf("its lock: %w", err)
	}
	err = retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) error {
		err := tryLock(f)
		if errors.Is(err, errLocked) {
			return err
		}
		return retry.Stop(err)
	})
	if err != nil {
		return nil, s.errorf("its lock: %w", multi.Join(err, f.Close()))
	}
	return f.Close, nil
}
