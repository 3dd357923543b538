package proxy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// stateVersion is the form of the state file that this code writes, and the youngest that it reads.
const stateVersion = 1

const maxStateFile = 1 << 20

// state is what the proxy has in force, as Config.StateFile keeps it. A value is never changed once it is in use.
type state struct {
	Version  int         `json:"version"`
	Revision uint64      `json:"revision"` // grows with each change
	Clean    bool        `json:"clean"`    // the proxy was closed properly: nothing is left, of it or of an earlier one
	Slots    []slotState `json:"slots"`    // by name; only those of which something is known
	Sum      string      `json:"sum"`      // SHA-256 of the text without it
}

// slotState is one slot in a state: where its known generation is, and what leads to it.
type slotState struct {
	Name    string    `json:"name"`
	Address string    `json:"address,omitempty"`
	Release string    `json:"release,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Part    int       `json:"part"`
	Sealed  bool      `json:"sealed,omitempty"`
}

func (s slotState) key() route.Key {
	return route.Key{Slot: s.Name, Address: s.Address, Release: s.Release, Started: s.Started}
}

// slotStateOf describes a generation in characters that JSON gives back as they are.
func slotStateOf(k route.Key) slotState {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	return slotState{Name: k.Slot, Address: valid(k.Address), Release: valid(k.Release), Started: k.Started.Round(0).UTC()}
}

// encode returns the text of the file.
func (st state) encode() ([]byte, error) {
	st.Version = stateVersion
	if st.Slots == nil {
		st.Slots = []slotState{}
	}
	sum, err := st.sum()
	if err != nil {
		return nil, err
	}
	st.Sum = sum
	text, err := json.MarshalIndent(st, "", "\t")
	return append(text, '\n'), err
}

func (st state) sum() (string, error) {
	st.Sum = ""
	text, err := json.Marshal(st)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// decodeState reads what encode wrote. Anything else is refused.
func decodeState(text []byte) (*state, error) {
	var head struct{ Version *int }
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	switch {
	case head.Version == nil:
		return nil, errors.New("it is damaged: it has no version")
	case *head.Version > stateVersion:
		return nil, fmt.Errorf("it has version %d, written by a newer program; this one reads up to %d", *head.Version, stateVersion)
	}
	var st state
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&st); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("it is damaged: something stands behind its end")
	}
	if again, err := st.encode(); err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("it is damaged: its checksum does not fit its content")
	}
	if err := st.check(); err != nil {
		return nil, fmt.Errorf("it contradicts itself: %w", err)
	}
	return &st, nil
}

// check returns all that cannot be in a state.
func (st state) check() error {
	var errs []error
	if st.Version != stateVersion {
		errs = append(errs, fmt.Errorf("version %d was never written", st.Version))
	}
	if st.Revision == 0 {
		errs = append(errs, errors.New("its revision is 0"))
	}
	sum, last := 0, ""
	for i, s := range st.Slots {
		if s.Name == "" || i > 0 && s.Name <= last {
			errs = append(errs, fmt.Errorf("slot number %d, %q, is out of place", i+1, s.Name))
		}
		last = s.Name
		if s.Part < 0 || s.Part > 100 || s.Part > 0 && (s.Sealed || s.Address == "") {
			errs = append(errs, fmt.Errorf("slot %q cannot have a part of %d", s.Name, s.Part))
		}
		if s.Address != "" {
			if err := slots.CheckAddress(s.Address); err != nil {
				errs = append(errs, fmt.Errorf("slot %q: %w", s.Name, err))
			}
		}
		sum += s.Part
	}
	if sum != 0 && sum != 100 {
		errs = append(errs, fmt.Errorf("its parts sum up to %d", sum))
	}
	return multi.Join(errs...)
}

// disk is what a store needs of the machine.
type disk struct {
	write  func(path string, data []byte, perm fs.FileMode) error
	read   func(path string) ([]byte, error)
	remote func(dir string) (kind string, err error)
}

func realDisk() disk { return disk{atomicfile.Write, atomicfile.Read, filelock.Remote} }

// store keeps the state on the disk. While it is open no other one on the same file can be. The zero store keeps nothing.
type store struct {
	path string
	disk disk
	lock *filelock.File
}

// openStore locks the state file at path and reads it; st is nil if there is none.
func openStore(path string, d disk) (s *store, st *state, err error) {
	lock, err := filelock.Try(path+".lock", 0o600)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, nil, fmt.Errorf("Config.StateFile: another proxy uses %q: end that one, or give this one a file of its own: %w", path, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("Config.StateFile: %q cannot be locked: %w", path, err)
	}
	s = &store{path: path, disk: d, lock: lock}
	s.sweep()
	if st, err = s.load(); err != nil {
		return nil, nil, multi.Join(fmt.Errorf("Config.StateFile: %w", err), lock.Close())
	}
	return s, st, nil
}

// sweep removes what writers that were killed have left behind.
func (s *store) sweep() {
	dir, base := filepath.Split(s.path)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return // nothing depends on it
	}
	for _, e := range entries {
		if e.Type().IsRegular() && leftOf(base, e.Name()) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// leftOf reports whether name is that of a temporary file of atomicfile's for base, or for what lies beside it by default. Another proxy's, whose
// state file is called base.b, is not: that may be at work.
func leftOf(base, name string) bool {
	for _, more := range [...]string{"", ".sessions", ".keys"} {
		number, ok := strings.CutPrefix(name, "."+base+more+".")
		if number, is := strings.CutSuffix(number, ".tmp"); ok && is && strings.Trim(number, "0123456789") == "" {
			return true
		}
	}
	return false
}

func (s *store) load() (*state, error) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var text []byte
	if info.Size() > maxStateFile {
		err = errors.New("it is damaged: it is larger than any state")
	} else if text, err = s.disk.read(s.path); err != nil {
		return nil, err
	}
	var st *state
	if err == nil {
		st, err = decodeState(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not used and was left as it is: %w; put a copy of it back that is whole, or look which slot serves, set "+
			"Config.Active to it and move the file away", s.path, err)
	}
	return st, nil
}

// save puts st on the disk. After an error the file says what old says, unless the error tells otherwise.
func (s *store) save(st, old *state) error {
	if s.path == "" {
		return nil
	}
	text, err := st.encode()
	if err != nil {
		return err
	}
	if err := s.lock.Lost(); err != nil {
		return fmt.Errorf("state file %q may be another proxy's by now: %w", s.path, err)
	}
	if err = s.disk.write(s.path, text, 0o600); err == nil {
		return nil
	}
	err = fmt.Errorf("state file: %w", err)
	if old == nil {
		return err
	}
	// It may be in place all the same, and not be sure to stay.
	if there, rerr := s.disk.read(s.path); errors.Is(rerr, fs.ErrNotExist) || rerr == nil && !bytes.Equal(there, text) {
		return err
	}
	before, berr := old.encode()
	if berr == nil {
		berr = s.disk.write(s.path, before, 0o600)
	}
	if berr != nil {
		return fmt.Errorf("%w; and a restart may find the new state in it, since the old one could not be put back: %w", err, berr)
	}
	return err
}

// close says in the file that the proxy has ended, if nothing of an earlier one may be left either, and lets others use it.
func (s *store) close(st *state, clean bool) error {
	if s.path == "" {
		return nil
	}
	var err error
	if clean && s.lock.Lost() == nil {
		last := *st
		last.Clean = true
		err = s.save(&last, nil)
	}
	return multi.Join(err, s.lock.Close())
}
