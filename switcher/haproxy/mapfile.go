package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/abswap/abswap/internal/atomicfile"
)

// editMap returns a map file's content with another value for the keys that are in set, and everything else as it was, byte for byte. Each of
// the keys must be there.
func editMap(content string, set map[string]string) (string, error) {
	var b strings.Builder
	found := map[string]bool{}
	for line := range strings.Lines(content) {
		key, from, to := mapLine(line)
		value, ours := set[key]
		if key == "" || !ours {
			b.WriteString(line)
			continue
		}
		found[key] = true
		b.WriteString(line[:from])
		if from == to { // a key without value
			b.WriteString(" ")
		}
		b.WriteString(value)
		b.WriteString(line[to:])
	}
	for key := range set {
		if !found[key] {
			return "", fmt.Errorf("%w: %q", ErrNoKey, key)
		}
	}
	return b.String(), nil
}

// mapValue finds the value of a key in a map file's content. HAProxy takes the first line of a key.
func mapValue(content, key string) (string, bool) {
	for line := range strings.Lines(content) {
		if k, from, to := mapLine(line); k == key {
			return line[from:to], true
		}
	}
	return "", false
}

// mapLine takes a line of a map file apart as HAProxy does: blanks, the key, blanks, the value up to the end of the line without blanks. The
// key is "" for a comment or an empty line. The value is line[from:to].
func mapLine(line string) (key string, from, to int) {
	end := len(strings.TrimRight(line, "\r\n"))
	blank := func(c byte) bool { return c == ' ' || c == '\t' }
	i := 0
	for i < end && blank(line[i]) {
		i++
	}
	if i == end || line[i] == '#' {
		return "", 0, 0
	}
	start := i
	for i < end && !blank(line[i]) {
		i++
	}
	key = line[start:i]
	for i < end && blank(line[i]) {
		i++
	}
	for end > i && blank(line[end-1]) {
		end--
	}
	return key, i, end
}

// readFile reads a file that HAProxy reads at its start, and its permissions.
func readFile(path string) (content string, perm os.FileMode, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	b, err := atomicfile.Read(path)
	return string(b), info.Mode().Perm(), err
}

// writeFile replaces a file as a whole; one that a symbolic link leads to stays behind that link. An equal content is not written again.
func writeFile(ctx context.Context, path, content string, perm os.FileMode) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if old, err := atomicfile.Read(path); err == nil && string(old) == content {
		return nil
	}
	to, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		to, err = path, nil
	}
	if err != nil {
		return err
	}
	return atomicfile.Write(to, []byte(content), perm)
}
