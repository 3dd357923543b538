package arr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/abswap/abswap/internal/atomicfile"
)

// wanted is what the states of members shall be, and in which worker processes they were brought about.
type wanted struct {
	Farm   string           `json:"farm"`
	States map[string]state `json:"states"` // by lower-case address; none: nothing is wanted of it
	PIDs   []int            `json:"pids"`   // worker processes of ARR's pool
}

// met reports whether all states are as wanted. Nothing wanted is always met.
func (w *wanted) met(v *view) bool {
	return w == nil || !slices.ContainsFunc(v.Servers, func(x server) bool {
		want, own := w.States[strings.ToLower(x.Address)]
		return own && x.is() != want
	})
}

// memory keeps a wanted in a file, or in itself.
type memory struct {
	path string
	mu   sync.Mutex
	now  *wanted // without a path
}

// load returns what is kept; nil: nothing.
func (m *memory) load(farm string) (*wanted, error) {
	if m.path == "" {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.now, nil
	}
	data, err := atomicfile.Read(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var w wanted
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err == nil && !strings.EqualFold(w.Farm, farm) {
		err = fmt.Errorf("it is of farm %q, not of %q", w.Farm, farm)
	}
	if err != nil {
		return nil, fmt.Errorf("memory of states %q: %w", m.path, err)
	}
	return &w, nil
}

// save keeps w; nil: nothing.
func (m *memory) save(w *wanted) error {
	if m.path == "" {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.now = w
		return nil
	}
	if w == nil {
		if err := atomicfile.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("memory of states %q: %w", m.path, err)
		}
		return nil
	}
	data, err := json.MarshalIndent(w, "", "  ")
	if err == nil {
		err = atomicfile.Write(m.path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("memory of states %q: %w", m.path, err)
	}
	return nil
}

// MarshalText writes what String returns.
func (s state) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *state) UnmarshalText(b []byte) error {
	i := slices.IndexFunc([]state{stateOpen, stateDraining, stateClosed}, func(x state) bool { return x.String() == string(b) })
	if i < 0 {
		return fmt.Errorf("state %q is not known", b)
	}
	*s = state(i)
	return nil
}

// marks remember which members were seen closed and empty, so that nothing of theirs can have been lost in a reset of counters since.
type marks struct {
	mu    sync.Mutex
	empty map[string]bool // by lower-case address
}

// note forgets the marks of members that are open again.
func (m *marks) note(v *view) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range v.Servers {
		if x.is() != stateClosed {
			delete(m.empty, strings.ToLower(x.Address))
		}
	}
}

func (m *marks) set(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.empty[strings.ToLower(address)] = true
}

func (m *marks) has(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.empty[strings.ToLower(address)]
}
