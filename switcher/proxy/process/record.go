package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/proc"
)

const recordVersion = 1

// record is what the slot's folder says of it, in slot.json. It is replaced as a whole, before and after each effect.
type record struct {
	Version   int            `json:"version"`
	Slot      string         `json:"slot"`
	Release   abswap.Release `json:"release"` // Path is absolute
	Installed time.Time      `json:"installed"`
	Run       *run           `json:"run,omitempty"` // nil: stopped
}

// run is one start of the application. It is written before the process exists, without Process, and again when it does.
type run struct {
	Token     string    `json:"token"`
	Address   string    `json:"address"`
	Begun     time.Time `json:"begun"`            // when the start was meant
	Process   proc.ID   `json:"process,omitzero"` // zero: the tool that meant to start it did not get to write it down
	LogOffset int64     `json:"logOffset"`        // where its part of the log begins
	Asked     time.Time `json:"asked,omitzero"`   // when it was asked to end; the grace counts from here
	Asking    bool      `json:"asking,omitempty"` // it is not known whether it has heard that
}

func (r *run) tree() proc.Tree { return proc.Tree{Main: r.Process, Token: r.Token} }

func (s *Slot) recordPath() string { return filepath.Join(s.cfg.Dir, "slot.json") }

// load returns the slot's record; an empty one if there is none.
func (s *Slot) load() (*record, error) {
	data, err := atomicfile.Read(s.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return &record{Version: recordVersion, Slot: s.cfg.Name}, nil
	}
	if err != nil {
		return nil, s.errorf("its record: %w", err)
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, s.errorf("its record %q is damaged; see which application runs, end it, and remove the file: %w", s.recordPath(), err)
	}
	if r.Version != recordVersion {
		return nil, s.errorf("its record %q is of version %d, this program knows version %d", s.recordPath(), r.Version, recordVersion)
	}
	if r.Slot != s.cfg.Name {
		return nil, s.errorf("folder %q belongs to slot %q: give each slot a folder of its own", s.cfg.Dir, r.Slot)
	}
	if r.Run != nil && r.Run.Token == "" {
		return nil, s.errorf("its record %q has a run without a token", s.recordPath())
	}
	return r, nil
}

func (s *Slot) save(r *record) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return s.errorf("its record: %w", err)
	}
	if err := atomicfile.Write(s.recordPath(), append(data, '\n'), 0o600); err != nil {
		return s.errorf("its record: %w", err)
	}
	return nil
}

// makeDir makes the slot's folder, but not its parent: a wrong path shall be seen.
func (s *Slot) makeDir() error {
	err := os.Mkdir(s.cfg.Dir, 0o700)
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(s.cfg.Dir))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return s.errorf("its folder: %w", err)
	}
	return nil
}

func (s *Slot) errorf(format string, args ...any) error {
	return fmt.Errorf("slot %q: "+format, append([]any{s.cfg.Name}, args...)...)
}
