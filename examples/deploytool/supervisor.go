package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// supervisor is what the serve process tells of its slots, in a file that "deploytool status" reads.
type supervisor struct {
	PID   int           `json:"pid"`
	Since time.Time     `json:"since"`
	Slots []supervision `json:"slots"`
}

// supervision is one slot of it.
type supervision struct {
	Slot     string      `json:"slot"`
	State    superState  `json:"state"`
	Deaths   []time.Time `json:"deaths,omitempty"` // those that count for the limit
	Restarts int         `json:"restarts"`         // since serve began
	Next     time.Time   `json:"next,omitzero"`    // when it is started again
	Err      string      `json:"error,omitempty"`  // of the last try
}

// superState says what the supervisor does about a slot.
type superState string

const (
	superNone    superState = "not supervised" // it is neither live nor kept warm, or a deploy has it on probation
	superRuns    superState = "running"
	superWaits   superState = "waiting"    // it has died and is started again soon
	superLimited superState = "died often" // the rapid-fail limit: it is started again after the pause
)

// text says it in a few words.
func (s *supervisor) text(slot string) string {
	if s == nil {
		return "-"
	}
	i := slices.IndexFunc(s.Slots, func(x supervision) bool { return x.Slot == slot })
	if i < 0 || s.Slots[i].State == superNone {
		return "-"
	}
	x := s.Slots[i]
	text := string(x.State)
	if x.State == superLimited {
		text = fmt.Sprintf("died %d times: rapid-fail limit", len(x.Deaths))
	}
	if !x.Next.IsZero() {
		text += ", next start at " + x.Next.Local().Format(time.TimeOnly)
	}
	if x.Restarts > 0 {
		text += fmt.Sprintf(", started again %s", count(x.Restarts, "time"))
	}
	if x.Err != "" {
		text += ": " + oneLine(x.Err, 120)
	}
	return text
}

func readSupervisor(path string) (*supervisor, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := new(supervisor)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// write replaces the file, so that readers see the old or the new one.
func (s *supervisor) write(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
