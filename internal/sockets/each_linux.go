package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

func each(f func(Conn)) error {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && path != "/proc/net/tcp" { // no IPv6 here
			continue
		}
		if err != nil {
			return err
		}
		err = parseProc(table, f)
		_ = table.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
