package nginx

import (
	"errors"
	"fmt"

	"github.com/abswap/abswap"
)

// Sentinels of this package; match them with errors.Is.
var (
	// ErrRefused: nginx did not take the new configuration. What was there before is in place again, and serves.
	ErrRefused = errors.New("nginx refused the configuration")

	// ErrPending: the file says something else than what nginx runs: the next reload, whoever does it, would move the traffic.
	ErrPending = errors.New("the file is changed and not loaded")

	// ErrNoMark: the front door does not answer with a mark of the site.
	ErrNoMark = errors.New("no mark at the front door")

	// ErrNotRunning: there is no master process, or it is not one of nginx.
	ErrNotRunning = errors.New("nginx is not running")
)

// unsure says that an effect may or may not have happened.
func unsure(err error) error {
	if err == nil || errors.Is(err, abswap.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
}
