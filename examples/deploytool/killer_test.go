package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// killEnv tells a deploytool that is started by a test when to die by SIGKILL (on Windows: TerminateProcess): "before 3" is right before its
// third record is written, "after 3" right after, "within 3" in the midst of writing it.
const killEnv = "DEPLOYTOOL_TEST_KILL"

// killer wraps the journal so that the process is killed as killEnv says.
func killer(open func(string, abswap.JournalOptions) (abswap.Journal, error)) func(string, abswap.JournalOptions) (abswap.Journal, error) {
	when, number, ok := strings.Cut(os.Getenv(killEnv), " ")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return open
	}
	return func(dir string, o abswap.JournalOptions) (abswap.Journal, error) {
		j, err := open(dir, o)
		return &killingJournal{Journal: j, dir: dir, when: when, left: n}, err
	}
}

type killingJournal struct {
	abswap.Journal
	dir, when string
	left      int // records until the end
}

// Unwrap lets the abilities through.
func (j *killingJournal) Unwrap() abswap.Journal { return j.Journal }

func (j *killingJournal) Lock(ctx context.Context, o abswap.Owner) (abswap.JournalHold, error) {
	h, err := j.Journal.Lock(ctx, o)
	if err != nil {
		return nil, err
	}
	return &killingHold{h, j}, nil
}

type killingHold struct {
	abswap.JournalHold
	j *killingJournal
}

func (h *killingHold) Append(ctx context.Context, r abswap.Record) error {
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

// tornFile names, in the journal's folder, the file that has to go when the tool is dead: Windows removes none that is open.
const tornFile = "torn"

// tear leaves what a write that was cut off leaves: half of the line. A swap's first line comes with its file, whole or not at all: see
// finishTear.
func (j *killingJournal) tear(before map[string]int64) {
	for path, now := range j.sizes() {
		then, old := before[path]
		var err error
		switch {
		case !old:
			err = os.WriteFile(filepath.Join(j.dir, tornFile), []byte(path), 0o600)
		case now > then:
			err = os.Truncate(path, then+(now-then)/2)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "killer:", err)
			os.Exit(99)
		}
	}
}

// finishTear does what tear had to leave.
func (m *machine) finishTear(t *testing.T) {
	note := filepath.Join(m.dir, "state", "journal", tornFile)
	path, err := os.ReadFile(note)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	require.NoError(t, err)
	require.NoError(t, os.Remove(note))
	require.NoError(t, os.Remove(string(path)))
}

// sizes returns the sizes of the journal's files by their paths.
func (j *killingJournal) sizes() map[string]int64 {
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

// t0 is a context for tests that have none.
func t0() context.Context { return context.Background() }
