//go:build !unix && !windows

package process

import "errors"

// writable returns nil if files can be made in the folder dir.
func writable(string) error { return errors.ErrUnsupported }
