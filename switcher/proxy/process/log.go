package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/abswap/abswap/internal/multi"
)

const (
	tailBytes = 4 << 10 // how much of the end of a log is read for an error
	tailLines = 5       // how many lines of that are quoted
	lineRunes = 200     // how much of a line
)

// openLog opens the log for the application to append to, after putting away a full one, and writes the line that begins its section.
// offset is where that section begins. The application writes to the file itself, so a log is never cut while it runs.
func (s *Slot) openLog(begun time.Time, release, address string) (f *os.File, offset int64, err error) {
	if err := os.MkdirAll(filepath.Dir(s.Log()), 0o700); err != nil {
		return nil, 0, err
	}
	note := ""
	if err := s.rotate(); err != nil { // somebody reads it, on Windows: no reason not to start
		note = fmt.Sprintf("--- the old log was not put away: %v\n", err)
	}
	f, err = os.OpenFile(s.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	offset, err = f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s--- %s slot %s starts release %s at %s\n", note, begun.Format(time.RFC3339Nano), s.cfg.Name, release, address)
	}
	if err != nil {
		return nil, 0, multi.Join(err, f.Close())
	}
	return f, offset, nil
}

// note writes a line about what is done to the application into its log, for the one who reads that. If it cannot, the deed goes on.
func (s *Slot) note(format string, args ...any) {
	f, err := os.OpenFile(s.Log(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "--- %s slot %s: %s\n", time.Now().Format(time.RFC3339Nano), s.cfg.Name, fmt.Sprintf(format, args...))
}

// rotate puts a log that has reached LogSize away as ".1", the one before as ".2" and so on; what is beyond LogKeep goes.
func (s *Slot) rotate() error {
	info, err := os.Stat(s.Log())
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() < s.cfg.LogSize) {
		return nil
	}
	if err != nil {
		return err
	}
	old := func(n int) string {
		if n == 0 {
			return s.Log()
		}
		return s.Log() + "." + strconv.Itoa(n)
	}
	absent := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	errs := []error{absent(os.Remove(old(s.cfg.LogKeep)))}
	for n := s.cfg.LogKeep - 1; n >= 0; n-- {
		if err := absent(os.Rename(old(n), old(n+1))); err != nil { // it stays where it is: the one before it must not take its place
			errs = append(errs, err)
			break
		}
	}
	return multi.Join(errs...)
}

// tail quotes the last lines that the application of r has written, on one line and without control characters; "" if it wrote none.
func (s *Slot) tail(r *run) string {
	f, err := os.Open(s.Log())
	if err != nil {
		return fmt.Sprintf("; its log: %v", err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end < r.LogOffset {
		return ""
	}
	from := max(r.LogOffset, end-tailBytes)
	data := make([]byte, end-from)
	if _, err := f.ReadAt(data, from); err != nil {
		return fmt.Sprintf("; its log: %v", err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\r\n"), "\n")
	if from == r.LogOffset { // the section's own first lines
		for len(lines) > 0 && strings.HasPrefix(lines[0], "--- ") {
			lines = lines[1:]
		}
	} else {
		lines = lines[min(1, len(lines)-1):] // the first is a part of a line, unless it is the only one
	}
	lines = lines[max(0, len(lines)-tailLines):]
	var quoted []string
	for _, l := range lines {
		if l = plain(l); l != "" {
			quoted = append(quoted, strconv.Quote(l))
		}
	}
	if len(quoted) == 0 {
		return ""
	}
	return fmt.Sprintf("; its log %q ends: %s", s.Log(), strings.Join(quoted, " "))
}

// plain returns line without what a terminal would obey, and not too long.
func plain(line string) string {
	line = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(line))
	if runes := []rune(line); len(runes) > lineRunes {
		return string(runes[:lineRunes]) + "..."
	}
	return line
}
