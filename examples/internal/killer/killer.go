// Package killer makes a tool die at a record of its journal, for the tests of examples whose tools have to survive that.
package killer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/abswap/abswap"
)

// Journal returns j, the file journal in dir, by which this process dies as where says, by SIGKILL (on Windows: TerminateProcess): "before 3" is
// right before its third record is written, "after 3" right after, "within 3" in the midst of writing it. With "" it is j itself.
//
// When a process is dead, FinishTear must be called before another one opens the journal.
func Journal(j abswap.Journal, dir, where string) (abswap.Journal, error) {
	if where == "" {
		return j, nil
	}
	when, number, _ := strings.Cut(where, " ")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || when != "before" && when != "within" && when != "after" {
		return nil, fmt.Errorf("killer: %q is no place to die at", where)
	}
	return &journal{Journal: j, dir: dir, when: when, left: n}, nil
}

type journal struct {
	abswap.Journal
	dir, when string
	left      int // records until the end
}

// Unwrap lets the abilities through.
func (j *journal) Unwrap() abswap.Journal { return j.Journal }

func (j *journal) Lock(ctx context.Context, o abswap.Owner) (abswap.JournalHold, error) {
	h, err := j.Journal.Lock(ctx, o)
	if err != nil {
		return nil, err
	}
	return &hold{h, j}, nil
}

type hold struct {
	abswap.JournalHold
	j *journal
}

func (h *hold) Append(ctx context.Context, r abswap.Record) error {
	h.j.left--
	if h.j.left == 0 && h.j.when == "before" {
		die()
	}
	before := h.j.sizes()
	err := h.JournalHold.Append(ctx, r)
	if h.j.left == 0 {
		if h.j.when == "within" {
			h.j.tear(before)
		}
		die()
	}
	return err
}

// torn names, in the journal's folder, the file that has to go when the process is dead: Windows removes none that is open.
const torn = "torn"

// tear leaves what a write that was cut off leaves: half of the line. A journal file's first line comes with the file, whole or not at all: see
// FinishTear.
func (j *journal) tear(before map[string]int64) {
	for path, now := range j.sizes() {
		then, old := before[path]
		var err error
		switch {
		case !old:
			err = os.WriteFile(filepath.Join(j.dir, torn), []byte(path), 0o600)
		case now > then:
			err = os.Truncate(path, then+(now-then)/2)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "killer:", err)
			os.Exit(99)
		}
	}
}

// FinishTear does what a process that died in the midst of a record could not do itself: it removes the file that had that record alone.
func FinishTear(dir string) error {
	note := filepath.Join(dir, torn)
	path, err := os.ReadFile(note)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(note), os.Remove(string(path)))
}

// sizes returns the sizes of the journal's files by their paths.
func (j *journal) sizes() map[string]int64 {
	sizes := map[string]int64{}
	files, _ := filepath.Glob(filepath.Join(j.dir, "*.jsonl"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			sizes[f] = info.Size()
		}
	}
	return sizes
}

// die ends this process as kill -9 does.
func die() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		os.Exit(99)
	}
	select {}
}
