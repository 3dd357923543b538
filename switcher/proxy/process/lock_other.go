//go:build !windows && (!unix || solaris || aix)

package process

import (
	"errors"
	"os"
)

func tryLock(*os.File) error { return errors.ErrUnsupported }
