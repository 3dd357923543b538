//go:build !windows

package appcmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// DefaultPath returns where this machine has appcmd.exe. fs.ErrNotExist if it is not there: it comes with the feature IIS Management
// Scripts and Tools. Elsewhere than on Windows: errors.ErrUnsupported.
func DefaultPath() (string, error) {
	return "", fmt.Errorf("there is no IIS on this system: %w", errors.ErrUnsupported)
}

// DefaultLock returns the path of the lock file that all programs on this machine share, and makes its folder.
func DefaultLock() (string, error) {
	return filepath.Join(os.TempDir(), "abswap-appcmd.lock"), nil
}
