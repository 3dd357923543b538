package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/abswap/abswap/internal/atomicfile"
)

// The file: magic, clean, time of writing, salt, generations, sessions, and the SHA-256 of all that.

const (
	magic      = "abswap sessions 1\n"
	saltSize   = 16
	recordSize = idSize + 2 + 8 + 8
	maxGens    = 1 << 16
	fixedSize  = len(magic) + 1 + 8 + saltSize + 2 + 4 + sha256.Size
)

// saved is what a file holds.
type saved struct {
	clean bool
	at    int64
	salt  []byte
	gens  []Generation
	all   []record
}

// record is a session in a file.
type record struct {
	id          ID
	gen         uint16
	began, last int64
}

var order = binary.BigEndian

// encode returns the text of the file.
func (s saved) encode() []byte {
	b := make([]byte, 0, fixedSize+len(s.gens)*64+len(s.all)*recordSize)
	b = append(b, magic...)
	b = append(b, map[bool]byte{true: 1}[s.clean])
	b = order.AppendUint64(b, uint64(s.at))
	b = append(b, s.salt...)
	b = order.AppendUint16(b, uint16(len(s.gens)))
	for _, g := range s.gens {
		for _, name := range []string{g.Slot, g.Release} {
			b = append(append(b, byte(len(name))), name...)
		}
	}
	b = order.AppendUint32(b, uint32(len(s.all)))
	for _, r := range s.all {
		b = append(b, r.id[:]...)
		b = order.AppendUint16(b, r.gen)
		b = order.AppendUint64(b, uint64(r.began))
		b = order.AppendUint64(b, uint64(r.last))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

var errDamaged = errors.New("it is damaged")

// decode reads what encode wrote. Anything else is refused.
func decode(b []byte) (s saved, err error) {
	if len(b) < fixedSize || string(b[:len(magic)]) != magic {
		return s, errDamaged
	}
	data := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], b[len(data):]) {
		return s, errDamaged
	}
	d := data[len(magic):]
	bad := false
	take := func(n int) []byte {
		if bad = bad || n > len(d); bad {
			return make([]byte, n)
		}
		x := d[:n]
		d = d[n:]
		return x
	}
	flag := take(1)[0]
	s.clean = flag == 1
	s.at = int64(order.Uint64(take(8)))
	s.salt = bytes.Clone(take(saltSize))
	for range order.Uint16(take(2)) {
		if bad {
			break
		}
		var g Generation
		g.Slot = string(take(int(take(1)[0])))
		g.Release = string(take(int(take(1)[0])))
		s.gens = append(s.gens, g)
	}
	n := int(order.Uint32(take(4)))
	if bad || flag > 1 || n*recordSize != len(d) {
		return saved{}, errDamaged
	}
	s.all = make([]record, n)
	for i := range s.all {
		r := &s.all[i]
		copy(r.id[:], take(idSize))
		r.gen = order.Uint16(take(2))
		r.began, r.last = int64(order.Uint64(take(8))), int64(order.Uint64(take(8)))
		if int(r.gen) >= len(s.gens) || r.began < 0 || r.last < r.began {
			return saved{}, errDamaged
		}
	}
	return s, nil
}

// load reads the file, and writes it anew, without its being clean.
func (t *Table) load() error {
	now := t.now()
	t.unknown.Store(now + t.cfg.Idle.Milliseconds())
	if t.cfg.Fresh {
		t.unknown.Store(0)
	}
	if t.cfg.File == "" {
		return nil
	}
	s, err := t.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errDamaged):
		t.unknown.Store(now + t.cfg.Idle.Milliseconds())
		t.note(fmt.Errorf("file %q: %w: what was in it is lost", t.cfg.File, err))
	case err != nil:
		return err
	default:
		t.salt = s.salt
		t.unknown.Store(0)
		if !s.clean {
			t.unknown.Store(now + t.cfg.Idle.Milliseconds())
		}
		t.take(s, now)
	}
	return t.save(false)
}

func (t *Table) read() (saved, error) {
	info, err := os.Stat(t.cfg.File)
	if err != nil {
		return saved{}, err
	}
	if limit := int64(fixedSize) + maxGens*512 + int64(recordSize)*max(int64(t.cfg.Max), 1<<20)*4; info.Size() > limit {
		return saved{}, fmt.Errorf("%w: it is larger than any table", errDamaged)
	}
	text, err := atomicfile.Read(t.cfg.File)
	if err != nil {
		return saved{}, err
	}
	return decode(text)
}

// take puts what a file holds into the table. After an unclean end nobody knows what was used since: it counts as used now.
func (t *Table) take(s saved, now int64) {
	for _, r := range s.all {
		g := s.gens[r.gen]
		last := min(r.last, now)
		if !s.clean {
			last = now
		}
		began := min(r.began, now)
		if t.tooOld(began, now) || now-last >= t.cfg.Idle.Milliseconds() || t.size.Load() >= int64(t.cfg.Max) {
			continue
		}
		sh := t.shard(r.id)
		if sh.live[r.id] != nil {
			continue
		}
		x := &Session{id: r.id, gen: g, count: t.counter(g), began: began, t: t}
		x.last.Store(last)
		sh.live[r.id] = x
		t.size.Add(1)
	}
}

// save writes the file.
func (t *Table) save(clean bool) error {
	if t.cfg.File == "" {
		return nil
	}
	t.saving.Lock()
	defer t.saving.Unlock()
	t.dirty.Store(false) // what changes from now on is written again
	now := t.now()
	s := saved{clean: clean && now >= t.unknown.Load(), at: now, salt: t.salt}
	index := map[Generation]uint16{}
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		for _, x := range sh.live {
			n, ok := index[x.gen]
			if !ok && len(s.gens) == maxGens-1 {
				continue
			}
			if !ok {
				n = uint16(len(s.gens))
				index[x.gen] = n
				s.gens = append(s.gens, x.gen)
			}
			last := x.last.Load()
			if x.busy() > 0 {
				last = now
			}
			s.all = append(s.all, record{x.id, n, x.began, max(last, x.began)})
		}
		sh.mu.RUnlock()
	}
	if err := atomicfile.Write(t.cfg.File, s.encode(), 0o600); err != nil {
		t.dirty.Store(true)
		return fmt.Errorf("sessions: file %q could not be written: %w", t.cfg.File, err)
	}
	return nil
}
