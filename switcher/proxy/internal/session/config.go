package session

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Config says what a session is. One of Cookie, AppCookie and AppHeader names it.
type Config struct {
	Cookie string // name of a cookie of the proxy's own, signed with Keys
	Keys   *Keys  // required with Cookie
	Secure bool   // Cookie is for TLS alone

	CrossSite bool // and it goes along with requests from other sites; needs Secure

	AppCookie string // name of the application's own session cookie
	AppHeader string // name of a request's header field, in canonical form, that names the session

	// Over is the name of a cookie that the application clears when a session ends. "": AppCookie is one, if it is set.
	Over string

	Idle time.Duration // a session that is not used for so long, and has no request under way, has ended; 0: 20m
	Life time.Duration // a session that is so old has ended; 0: 24h, negative: none
	Max  int           // sessions at one time; what comes beyond has none; 0: 1,000,000

	// ARR tells which generation was which server of an ARR farm, by the server's address as the farm's configuration has it. A client with
	// ARR's affinity cookie and no session here begins one there.
	ARR       map[string]Generation
	ARRCookie string // "": ARRAffinity

	// Fresh says that there can be no session from before Open, so that the number is known at once where there is no File.
	Fresh bool

	// File is where the table is kept on the disk; its folder exists, and nobody else uses it. "": nowhere, so that after each start the
	// number of sessions is not known for one idle period.
	File string
	Save time.Duration // how often File is written if something has begun or ended; 0: 2s
}

// check returns all mistakes of c at once.
func (c Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	ways := 0
	for _, w := range []struct{ field, name string }{{"Cookie", c.Cookie}, {"AppCookie", c.AppCookie}, {"AppHeader", c.AppHeader}} {
		if w.name == "" {
			continue
		}
		ways++
		if !isToken(w.name) {
			bad("Sessions.%s: %q cannot be a name", w.field, w.name)
		}
	}
	if ways != 1 {
		bad("Sessions: one of Cookie, AppCookie and AppHeader names a session, and %d are set", ways)
	}
	if (c.Cookie != "") != (c.Keys != nil) {
		bad("Sessions.Keys are needed with Cookie, and only there")
	}
	for _, w := range []struct{ field, name string }{{"Over", c.Over}, {"ARRCookie", c.ARRCookie}} {
		if w.name != "" && !isToken(w.name) {
			bad("Sessions.%s: %q cannot be a name", w.field, w.name)
		}
	}
	if c.Idle < 0 || c.Max < 0 || c.Save < 0 {
		bad("Sessions: Idle %s, Max %d, Save %s: none may be below 0", c.Idle, c.Max, c.Save)
	}
	for server, g := range c.ARR {
		if server == "" || g.Slot == "" {
			bad("Sessions.ARR: server %q and slot %q: neither may be empty", server, g.Slot)
		}
	}
	return multi.Join(errs...)
}

// isToken reports whether s can be the name of a cookie, or of a header field.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// Table holds the sessions. All methods are safe for concurrent use.
type Table struct {
	cfg     Config
	field   string // the one that names sessions
	keys    atomic.Pointer[Keys]
	arr     map[string]Generation // by the cookie's value
	salt    []byte                // of the hashes of application's keys; it is in the file
	base    time.Time
	unknown atomic.Int64 // until when the number of sessions is not known
	shards  [shardCount]shard
	size    atomic.Int64
	refused atomic.Int64
	dirty   atomic.Bool // something has begun or ended since the file was written

	countsMu sync.Mutex
	counts   map[Generation]*counter

	fault   atomic.Pointer[error] // of the file
	saving  sync.Mutex            // held by the one who writes it
	closing chan struct{}
	close   func() error
	keeper  sync.WaitGroup
}

// Open checks cfg and returns a Table, with the sessions that its file holds. The error lists all mistakes in cfg, or says why the file cannot
// be written. A file that is damaged is none: nothing in it is used, the number of sessions is not known for one idle period, and Fault tells.
// Close the Table.
func Open(cfg Config) (*Table, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&cfg.Idle, 20*time.Minute)
	def(&cfg.Life, 24*time.Hour)
	def(&cfg.Save, 2*time.Second)
	if cfg.Max == 0 {
		cfg.Max = 1_000_000
	}
	if cfg.ARRCookie == "" {
		cfg.ARRCookie = "ARRAffinity"
	}
	if cfg.Over == "" {
		cfg.Over = cfg.AppCookie
	}
	t := &Table{cfg: cfg, base: time.Now(), salt: make([]byte, saltSize), counts: map[Generation]*counter{}, arr: map[string]Generation{},
		closing: make(chan struct{}), field: "Cookie"}
	if cfg.AppHeader != "" {
		t.field = cfg.AppHeader
	}
	rand.Read(t.salt)
	t.keys.Store(cfg.Keys)
	for server, g := range cfg.ARR {
		t.arr[ARRValue(server)] = g
	}
	for i := range t.shards {
		t.shards[i].live, t.shards[i].ended = map[ID]*Session{}, map[ID]bool{}
	}
	if err := t.load(); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	t.close = sync.OnceValue(func() error {
		close(t.closing)
		t.keeper.Wait()
		return t.save(true)
	})
	t.keeper.Go(t.keep)
	return t, nil
}

// Close writes the file, in which it says that nothing is missing, and returns when nothing of the Table runs any more. Its sessions can still
// be read, and do not end by themselves. A second call does nothing.
func (t *Table) Close() error { return t.close() }

// Rotate puts other keys in force.
func (t *Table) Rotate(k *Keys) error {
	if k == nil || t.cfg.Cookie == "" {
		return errors.New("sessions: keys are for signed cookies")
	}
	t.keys.Store(k)
	return nil
}

// Refused returns how many requests had no session since there were too many, or since the names of their slot are too long.
func (t *Table) Refused() int64 { return t.refused.Load() }

// Fault returns what was wrong with the file when it was read or written last; nil if nothing was.
func (t *Table) Fault() error {
	if p := t.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// keep ends what has ended by time, and writes the file, until Close.
func (t *Table) keep() {
	sweep := time.NewTicker(min(max(t.cfg.Idle/20, 10*time.Millisecond), 5*time.Second))
	defer sweep.Stop()
	save := time.NewTimer(t.cfg.Save)
	defer save.Stop()
	for {
		select {
		case <-sweep.C:
			t.sweep()
		case <-save.C:
			began := time.Now()
			if t.dirty.Load() {
				t.note(t.save(false))
			}
			save.Reset(max(t.cfg.Save, 20*time.Since(began))) // a large table does not keep the disk busy
		case <-t.closing:
			return
		}
	}
}

func (t *Table) note(err error) {
	if err == nil {
		t.fault.Store(nil)
		return
	}
	t.fault.Store(&err)
}
