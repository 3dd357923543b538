package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Generation is what a session is bound to: one release in one slot. The zero value is none.
type Generation struct{ Slot, Release string }

// ID names a session in the table: the random part of a signed cookie, or the hash of an application's own key.
type ID [idSize]byte

// Session is one client's session. Its methods are safe for concurrent use, and for a nil Session, which is none.
type Session struct {
	id    ID
	gen   Generation
	count *counter
	began int64        // milliseconds
	last  atomic.Int64 // when it was used last
	use   atomic.Int64 // requests under way, and ended, which is set with the shard's lock held
	proof atomic.Pointer[proof]
	t     *Table
}

// ended is the bit in Session.use that says that it has. It shares a word with the number of requests: none enters while it is set.
const ended = 1 << 62

// Generation returns where the session lives.
func (s *Session) Generation() Generation {
	if s == nil {
		return Generation{}
	}
	return s.gen
}

// Ended reports whether the session has ended.
func (s *Session) Ended() bool { return s == nil || s.use.Load()&ended != 0 }

// busy returns how many requests are under way.
func (s *Session) busy() int64 { return s.use.Load() &^ ended }

// Touch tells that the session is used now.
func (s *Session) Touch() {
	if s != nil {
		s.last.Store(s.t.now())
	}
}

// Leave tells that a request which Begin has counted is over.
func (s *Session) Leave() {
	if s != nil {
		s.Touch()
		s.use.Add(-1)
	}
}

// enter counts a request, if the session has not ended.
func (s *Session) enter() bool {
	if s.use.Add(1)&ended == 0 {
		return true
	}
	s.use.Add(-1)
	return false
}

// counter counts the live sessions of one generation.
type counter struct{ n atomic.Int64 }

const shardCount = 64

// shard is a part of the sessions that few requests at a time look into.
type shard struct {
	mu    sync.RWMutex
	live  map[ID]*Session
	ended map[ID]bool // while the number is not known: ended, though a cookie may say otherwise
	_     [64]byte
}

func (t *Table) shard(id ID) *shard { return &t.shards[id[0]%shardCount] }

// now is the time in milliseconds. It only grows, whatever happens to the clock of the machine.
func (t *Table) now() int64 { return t.base.UnixMilli() + time.Since(t.base).Milliseconds() }

// Pick is what the head of a request says of its session.
type Pick struct {
	s      *Session
	want   Generation
	id     ID
	named  bool // id is what the session is to be called
	issued int64
}

// Want returns the generation in which the request's session lives, or shall; the zero value if it has none, or a new one.
func (p Pick) Want() Generation { return p.want }

// Known reports whether the session is in the table.
func (p Pick) Known() bool { return p.s != nil }

// Pick finds the session of a request, and counts it as used.
func (t *Table) Pick(h Head) Pick { return t.pick(h, nil) }

// pick is Pick; m is what the connection remembers; nil: nothing.
func (t *Table) pick(h Head, m *memory) (p Pick) {
	lines := h.Values(t.field)
	if p.s = m.same(t, lines); p.s != nil {
		return Pick{s: p.s, want: p.s.gen, id: p.s.id, named: t.cfg.Cookie == ""}
	}
	if t.cfg.Cookie != "" {
		p = t.pickSigned(h)
	} else if key := t.ownKey(h); key != "" {
		p.id, p.named = t.hash(key), true
		p.s = t.find(p.id)
	}
	m.keep(h.Values(t.field), p.s)
	if p.s != nil {
		p.want = p.s.gen
	} else if p.want == (Generation{}) && len(t.arr) > 0 && (p.named || t.cfg.Cookie != "") {
		if v := cookie(h, t.cfg.ARRCookie); v != "" && len(v) <= 2*sha256.Size {
			p.want = t.arr[strings.ToUpper(v)]
		}
	}
	return p
}

func (t *Table) pickSigned(h Head) (p Pick) {
	Cookies(h, t.cfg.Cookie, func(v string) bool {
		if s := t.seen(v); s != nil {
			p = Pick{s: s}
			return false
		}
		keys := t.keys.Load()
		tok, ok := keys.verify(t.cfg.Cookie, v)
		if !ok {
			return true
		}
		if s := t.find(tok.id); s != nil && s.gen == tok.gen {
			s.proof.Store(&proof{keys, sha256.Sum256([]byte(v))})
			p = Pick{s: s}
			return false
		}
		issued := tok.issued.UnixMilli()
		if p.named || !t.mayLack(tok.id) || t.tooOld(issued, t.now()) || issued > t.now()+time.Minute.Milliseconds() {
			return true
		}
		p = Pick{want: tok.gen, id: tok.id, named: true, issued: issued}
		return true
	})
	return p
}

// proof is the hash of a cookie's value that these keys have verified, or signed, so that this is not done for each request.
type proof struct {
	keys *Keys
	sum  [sha256.Size]byte
}

// seen returns the live session whose cookie has been verified before; nil if there is none. The session is used now.
func (t *Table) seen(value string) *Session {
	const head = (1 + keyIDSize + 8 + idSize + 2) / 3 * 4 // characters that the ID is in
	var text [head]byte
	var raw [head / 4 * 3]byte
	if len(value) < head || len(value) > maxToken {
		return nil
	}
	copy(text[:], value)
	if _, err := encoding.Decode(raw[:], text[:]); err != nil {
		return nil
	}
	id := ID(raw[1+keyIDSize+8:][:idSize])
	sh := t.shard(id)
	sh.mu.RLock()
	s := sh.live[id]
	sh.mu.RUnlock()
	if s == nil {
		return nil
	}
	known := s.proof.Load()
	if known == nil || known.keys != t.keys.Load() {
		return nil
	}
	var buf [1024]byte
	sum := sha256.Sum256(append(buf[:0], value...))
	if subtle.ConstantTimeCompare(sum[:], known.sum[:]) != 1 {
		return nil
	}
	return t.find(id)
}

// mayLack reports whether a session that is not in the table may be live all the same.
func (t *Table) mayLack(id ID) bool {
	if t.now() >= t.unknown.Load() {
		return false
	}
	sh := t.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return !sh.ended[id]
}

// ownKey is what names a session by the application's own means; "": it has none.
func (t *Table) ownKey(h Head) (key string) {
	if t.cfg.AppCookie != "" {
		key = cookie(h, t.cfg.AppCookie)
	} else if v := h.Values(t.cfg.AppHeader); len(v) == 1 {
		key = v[0]
	}
	if len(key) > maxKey {
		return ""
	}
	return key
}

// hash is the name in the table of an application's key.
func (t *Table) hash(key string) (id ID) {
	var buf [512]byte
	b := append(buf[:0], t.salt...)
	b = append(b, key...)
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

// find returns the live session of that name, which is used now; nil if there is none.
func (t *Table) find(id ID) *Session {
	sh := t.shard(id)
	now := t.now()
	sh.mu.RLock()
	s := sh.live[id]
	stale := s != nil && t.stale(s, now)
	if s != nil && !stale {
		s.last.Store(now)
	}
	sh.mu.RUnlock()
	if stale {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if !s.Ended() {
			t.dropStale(sh, s, t.now())
		}
		return nil
	}
	return s
}

// stale reports whether s has ended by time.
func (t *Table) stale(s *Session, now int64) bool {
	return t.tooOld(s.began, now) || s.busy() == 0 && t.idle(s, now)
}

func (t *Table) idle(s *Session, now int64) bool {
	return now-s.last.Load() >= t.cfg.Idle.Milliseconds()
}

func (t *Table) tooOld(began, now int64) bool {
	return t.cfg.Life > 0 && now-began >= t.cfg.Life.Milliseconds()
}

// Begin tells that the request of p has entered g. It returns the session that it belongs to, in which it is counted until Leave, and the value
// of a Set-Cookie field, if the client has to be told. A session that p had in another generation ends. The session is nil if there is none: the
// request has nothing that names one, or the table is full.
func (t *Table) Begin(p Pick, g Generation) (s *Session, set string) {
	if p.s != nil {
		if p.s.gen == g && p.s.enter() {
			return p.s, ""
		}
		if p.s.gen != g {
			t.End(p.s)
		}
		if t.cfg.Cookie == "" { // its name stays
			p.id, p.named = p.s.id, true
		}
		p.s = nil
	}
	if len(g.Slot) > maxName || len(g.Release) > maxName {
		t.refused.Add(1)
		return nil, ""
	}
	signed := t.cfg.Cookie != ""
	issued := p.issued
	again := signed && p.named && p.want == g // the client has the cookie
	if signed && !again {
		rand.Read(p.id[:])
		issued = 0
	} else if !p.named {
		return nil, ""
	}
	if issued == 0 {
		issued = t.now()
	}
	s = t.add(p.id, g, issued)
	if s == nil || !signed || again {
		return s, ""
	}
	keys := t.keys.Load()
	value := keys.sign(t.cfg.Cookie, token{id: p.id, issued: time.UnixMilli(issued), gen: g})
	s.proof.Store(&proof{keys, sha256.Sum256([]byte(value))})
	set = t.cfg.Cookie + "=" + value + "; Path=/; HttpOnly"
	if t.cfg.Secure {
		set += "; Secure"
	}
	if t.cfg.CrossSite {
		return s, set + "; SameSite=None"
	}
	return s, set + "; SameSite=Lax"
}

// add puts a session into the table, or finds the one of that name, and counts a request in it. nil if the table is full, or the session is
// already in another generation.
func (t *Table) add(id ID, g Generation, began int64) *Session {
	if t.size.Add(1) > int64(t.cfg.Max) {
		t.size.Add(-1)
		t.refused.Add(1)
		return nil
	}
	c := t.counter(g)
	s := &Session{id: id, gen: g, count: c, began: began, t: t}
	s.use.Store(1)
	s.Touch()
	sh := t.shard(id)
	sh.mu.Lock()
	if old := sh.live[id]; old != nil { // another request of the client was first
		t.size.Add(-1)
		c.n.Add(-1)
		if old.gen != g {
			old = nil
		} else {
			old.use.Add(1) // it cannot end meanwhile
			old.Touch()
		}
		sh.mu.Unlock()
		return old
	}
	sh.live[id] = s
	delete(sh.ended, id)
	sh.mu.Unlock()
	t.dirty.Store(true)
	return s
}

// counter returns the counter of g, in which one more is counted.
func (t *Table) counter(g Generation) *counter {
	t.countsMu.Lock()
	defer t.countsMu.Unlock()
	c := t.counts[g]
	if c == nil {
		c = &counter{}
		t.counts[g] = c
	}
	c.n.Add(1)
	return c
}

// End ends a session: it counts no longer, and what names it is not known any more. Requests of it go on. A second call does nothing.
func (t *Table) End(s *Session) {
	if s == nil {
		return
	}
	sh := t.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !s.Ended() {
		t.drop(sh, s)
	}
}

// dropStale drops s, of the shard whose lock is held, if it has ended by time. A request that came at the same moment may be told so although
// the session goes on; it then goes to its slot without it.
func (t *Table) dropStale(sh *shard, s *Session, now int64) {
	if !t.tooOld(s.began, now) {
		if !t.idle(s, now) || !s.use.CompareAndSwap(0, ended) {
			return
		}
		if !t.idle(s, now) { // it was used in between
			s.use.Add(-ended)
			return
		}
	}
	t.drop(sh, s)
}

// drop takes s out of its shard, whose lock is held.
func (t *Table) drop(sh *shard, s *Session) {
	s.use.Or(ended)
	delete(sh.live, s.id)
	if t.cfg.Cookie != "" && t.now() < t.unknown.Load() {
		if len(sh.ended) < t.cfg.Max/shardCount+1 {
			sh.ended[s.id] = true
		}
	}
	t.size.Add(-1)
	s.count.n.Add(-1)
	t.dirty.Store(true)
}

// EndAll ends all sessions of g and returns how many there were. Signed cookies of it that the table lacks are not taken as live any more.
func (t *Table) EndAll(g Generation) int {
	return t.endWhere(func(s *Session) bool { return s.gen == g })
}

func (t *Table) endWhere(cond func(*Session) bool) (n int) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for _, s := range sh.live {
			if cond(s) {
				t.drop(sh, s)
				n++
			}
		}
		sh.mu.Unlock()
	}
	return n
}

// Answered reads what the application says of its own cookies in the head of an answer to a request of s, which entered g. When it clears the
// cookie that stands for the session, the session ends; when it sets the one that names sessions, the session is called so from now on, and
// what has the old name, requests that are under way, may use it for a minute more. It returns the session of the request from now on, which
// is to leave.
func (t *Table) Answered(s *Session, g Generation, h Head) *Session {
	if t.cfg.Over == "" && t.cfg.AppCookie == "" {
		return s
	}
	now := time.UnixMilli(t.now())
	if t.cfg.Over != "" {
		if _, _, cleared := setCookie(h, t.cfg.Over, now); cleared {
			t.End(s)
			return s
		}
	}
	if t.cfg.AppCookie == "" {
		return s
	}
	value, set, cleared := setCookie(h, t.cfg.AppCookie, now)
	switch {
	case cleared:
		t.End(s)
	case set && len(value) <= maxKey && len(g.Slot) <= maxName && len(g.Release) <= maxName:
		id := t.hash(value)
		if s != nil && s.id == id {
			return s
		}
		next := t.add(id, g, t.now())
		if s != nil && next != nil {
			s.Leave()
			s.last.Store(t.now() - max(t.cfg.Idle-rename, 0).Milliseconds())
		}
		if next != nil {
			return next
		}
	}
	return s
}

// rename is how long a session may be used by its old name.
const rename = time.Minute

// Known reports whether no session is missing in the numbers.
func (t *Table) Known() bool { return t.now() >= t.unknown.Load() }

// Live returns how many sessions g has. known is false where that cannot be told: after an end without Close, for one idle period. The number
// is then at most too small.
func (t *Table) Live(g Generation) (n int, known bool) {
	known = t.now() >= t.unknown.Load()
	t.countsMu.Lock()
	c := t.counts[g]
	t.countsMu.Unlock()
	if c == nil {
		return 0, known
	}
	return int(c.n.Load()), known
}

// Generations returns all generations that have sessions, with their numbers.
func (t *Table) Generations() map[Generation]int {
	t.countsMu.Lock()
	defer t.countsMu.Unlock()
	all := map[Generation]int{}
	for g, c := range t.counts {
		if n := c.n.Load(); n > 0 {
			all[g] = int(n)
		}
	}
	return all
}

// sweep ends what has ended by time, and forgets what is of no use any more.
func (t *Table) sweep() {
	now := t.now()
	known := now >= t.unknown.Load()
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for _, s := range sh.live {
			t.dropStale(sh, s, now)
		}
		if known {
			clear(sh.ended)
		}
		sh.mu.Unlock()
	}
	t.countsMu.Lock()
	for g, c := range t.counts {
		if c.n.Load() == 0 {
			delete(t.counts, g)
		}
	}
	t.countsMu.Unlock()
}
