package proxy

import (
	"encoding/json"
	"io/fs"
	"testing"
)

// NewOn is New on a disk that may fail, or be elsewhere. nil: the real one.
func NewOn(cfg Config, write func(string, []byte, fs.FileMode) error, remote func(string) (string, error)) (*Switcher, error) {
	d := realDisk()
	if write != nil {
		d.write = write
	}
	if remote != nil {
		d.remote = remote
	}
	return newOn(cfg, d)
}

// OnDisk returns the weights that a restart would find.
func (s *Switcher) OnDisk(t testing.TB) map[string]int {
	st, err := s.store.load()
	if err != nil {
		t.Fatal(err)
	}
	w := map[string]int{}
	for _, x := range st.Slots {
		if x.Part > 0 {
			w[x.Name] = x.Part
		}
	}
	return w
}

// Sealed reports whether the slot is sealed.
func (s *Switcher) Sealed(slot string) bool { return s.table.Sealed(slot) }

// DecodeState decodes a state file and encodes it again.
func DecodeState(text []byte) ([]byte, error) {
	st, err := decodeState(text)
	if err != nil {
		return nil, err
	}
	return st.encode()
}

// DecodeOrders reads text as each of the orders that there are, and writes those that it can be.
func DecodeOrders(text []byte) (out [][]byte) {
	for _, o := range []any{&activateOrder{}, &weightsOrder{}, &sealOrder{}, &forceOrder{}, &previewOrder{}, &holdOrder{}, &leaseOrder{}, &checkOrder{}} {
		if decodeOrder(text, o) == nil {
			again, err := json.Marshal(o)
			if err != nil {
				panic(err)
			}
			out = append(out, again)
		}
	}
	return out
}
