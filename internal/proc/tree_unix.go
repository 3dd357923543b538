//go:build linux || darwin

package proc

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// info is what the system tells of one process.
type info struct {
	id              ID
	name            string
	parent, session int
	dead            bool // a zombie: it has ended and waits to be waited for
}

// Running reports whether the very process that id names runs. One that has ended and was not yet waited for does not.
func Running(id ID) (bool, error) {
	if id.PID <= 0 {
		return false, nil
	}
	in, err := look(id.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && in.id == id && !in.dead, err
}

// Find tells what runs of t, and of the processes in also, which were seen to belong to it before. If t.Main is zero and nothing is
// found, it looks again for a moment: the starter may have died just now.
func (t Tree) Find(ctx context.Context, also ...ID) (Members, error) {
	m, err := t.find(also)
	for give := time.Now().Add(settle); err == nil && t.Main == (ID{}) && len(m.All) == 0 && time.Now().Before(give); {
		if err := retry.Sleep(ctx, settle/8); err != nil {
			return m, err
		}
		m, err = t.find(also)
	}
	return m, err
}

func (t Tree) find(also []ID) (Members, error) {
	all, err := snapshot()
	if err != nil {
		return Members{}, err
	}
	return t.members(all, also, tokenOf), nil
}

// members picks from all what belongs to t. A process that carries another token belongs to another Launch, whoever began it.
func (t Tree) members(all []info, also []ID, tokenOf func(pid int) string) Members {
	var m Members
	byPID := make(map[int]info, len(all))
	for _, in := range all {
		byPID[in.id.PID] = in
		if in.id == t.Main && !in.dead {
			m.Main = t.Main
		}
	}
	// The number of a session is not used again while the session lives: with its leader alive, or dead and not yet waited for, it is ours.
	leader, sessionIsOurs := byPID[t.Main.PID]
	sessionIsOurs = sessionIsOurs && t.Main.PID > 0 && leader.id == t.Main

	mine := map[int]bool{}
	tokens := map[int]string{}
	self := os.Getpid()
	for _, in := range all {
		if in.id.PID == self {
			continue
		}
		tokens[in.id.PID] = tokenOf(in.id.PID)
		switch {
		case in.id == t.Main, slices.Contains(also, in.id), t.Token != "" && tokens[in.id.PID] == t.Token:
			mine[in.id.PID] = true
		case sessionIsOurs && in.session == t.Main.PID && tokens[in.id.PID] == "":
			mine[in.id.PID] = true
		}
	}
	for grown := true; grown; { // descendants
		grown = false
		for _, in := range all {
			p, ok := byPID[in.parent]
			if ok && mine[in.parent] && !mine[in.id.PID] && in.id.PID != self && tokens[in.id.PID] == "" && in.id.Start >= p.id.Start {
				mine[in.id.PID], grown = true, true
			}
		}
	}
	for _, in := range all {
		if mine[in.id.PID] && !in.dead {
			m.All = append(m.All, in.id)
		}
	}
	slices.SortFunc(m.All, func(a, b ID) int { // the oldest first: of those begun in one tick, the one with the lower number
		if a.Start != b.Start {
			if a.Start < b.Start {
				return -1
			}
			return 1
		}
		return a.PID - b.PID
	})
	if t.Main == (ID{}) {
		m.Main = mainOf(m.All, byPID, mine)
	}
	return m
}

// mainOf picks the process that Launch began: a leader of a session whose parent is not one of us; the oldest such.
func mainOf(sorted []ID, byPID map[int]info, mine map[int]bool) ID {
	for _, id := range sorted {
		if in := byPID[id.PID]; in.session == id.PID && !mine[in.parent] {
			return id
		}
	}
	return ID{}
}

func tokenIn(env []byte) string {
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, []byte(TokenEnv+"=")); ok {
			return string(rest)
		}
	}
	return ""
}

// Interrupt asks the main process to end: SIGTERM. It returns os.ErrProcessDone if that does not run any more.
func (t Tree) Interrupt(context.Context) error { return terminate(t.Main) }

// KillAll ends what runs of t at once and for certain, and what of also still runs.
func (t Tree) KillAll(also ...ID) error {
	m, err := t.find(also)
	return multi.Join(err, Kill(m.All))
}

func kill(id ID) error { return signal(id, syscall.SIGKILL) }

func terminate(id ID) error { return signal(id, syscall.SIGTERM) }

// signalPID verifies id and then signals its pid. Between the two the process could end and its pid be used again; that takes a whole
// round of all pids in that moment.
func signalPID(id ID, sig syscall.Signal) error {
	if ok, err := Running(id); err != nil {
		return err
	} else if !ok {
		return os.ErrProcessDone
	}
	err := syscall.Kill(id.PID, sig)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("kill", err)
}
