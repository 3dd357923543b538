package session

// Visit is the part of one request in its session. Both data paths use it in this order: Open, then for each attempt Enter, perhaps Answered,
// and Leave. It is not safe for concurrent use. The zero value belongs to no Table, and all its methods but Open do nothing.
type Visit struct {
	t   *Table
	p   Pick
	gen Generation
	s   *Session
	set string

	over bool // the session has ended since Open: the request, which was led to its slot, begins none there

	mem memory // outlives Close
}

// memory is what the last request on a connection has proved: a value that is the same again names the same session. So its signature, or its
// hash, and its place in the table are looked for once.
type memory struct {
	value []byte
	s     *Session
	keys  *Keys // under which that holds
}

// maxMemory bounds the values that are kept, of each connection.
const maxMemory = 256

// same returns the session that value names, as far as it has been proved; nil: that is to be found out. It is used now.
func (m *memory) same(t *Table, value string) *Session {
	if m == nil {
		return nil
	}
	s := m.s
	if s == nil || string(m.value) != value || s.t != t || m.keys != t.keys.Load() || s.Ended() {
		return nil
	}
	now := t.now()
	if t.stale(s, now) {
		return nil
	}
	s.last.Store(now)
	return s
}

// keep notes that value names s; nil: nothing is known of it.
func (m *memory) keep(t *Table, value string, s *Session) {
	if m == nil {
		return
	}
	m.s, m.keys = nil, nil
	if s == nil || len(value) > maxMemory {
		return
	}
	m.value, m.s = append(m.value[:0], value...), s
	if p := s.proof.Load(); p != nil {
		m.keys = p.keys
	}
}

// Open begins the visit of the request with that head, and returns where its session lives, or shall; the zero Generation: nowhere yet.
// Nothing of h is kept.
func (v *Visit) Open(t *Table, h Head) Generation {
	v.Close()
	v.t, v.p = t, t.pick(h, &v.mem)
	return v.p.Want()
}

// On reports whether the visit is open.
func (v *Visit) On() bool { return v.t != nil }

// Close forgets the visit, but not what the next one on the same connection can make use of.
func (v *Visit) Close() {
	if v.t != nil {
		*v = Visit{mem: v.mem}
	}
}

// Enter tells that the request has entered g. A session that the client can name already is counted from here on; one that begins in it
// counts when the client is about to hear of it, so that a request without an answer leaves none behind.
func (v *Visit) Enter(g Generation) {
	if v.t == nil {
		return
	}
	v.gen, v.set, v.over = g, "", false
	signed := v.t.cfg.Cookie != ""
	switch p := &v.p; {
	case p.s != nil && p.s.gen == g:
		if v.over = !p.s.enter(); !v.over {
			v.s = p.s
		}
	case signed && p.named && p.want == g, !signed && (p.s != nil || p.named):
		v.s, v.set = v.t.Begin(*p, g)
	}
}

// Answered takes in the head of the final answer, and returns the value of a Set-Cookie field that is to be added to it; "": none.
func (v *Visit) Answered(h Head) string {
	if v.t == nil {
		return ""
	}
	if v.s == nil && !v.over && v.t.cfg.Cookie != "" {
		v.s, v.set = v.t.Begin(v.p, v.gen)
	}
	v.s = v.t.Answered(v.s, v.gen, h)
	if v.s.Ended() {
		return "" // it was the application's last word
	}
	return v.set
}

// Leave ends the attempt. The session, if there is one, goes with the request to the next attempt.
func (v *Visit) Leave() {
	if v.s != nil {
		v.s.Leave()
		v.p.s, v.s = v.s, nil
	}
}
