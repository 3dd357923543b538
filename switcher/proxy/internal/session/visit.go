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

// memory is what the last request on a connection has proved. The next one, if it says the same, is of the same session: so the cookie is looked
// for in its field, its signature proved, and the session found in the table, once.
type memory struct {
	line []byte // the field that named the session, whole
	s    *Session
	keys *Keys // under which that holds; nil: it needs none
}

// maxMemory bounds the fields that are kept, of each connection.
const maxMemory = 1 << 10

// same returns the session of a request that has these fields, as far as it has been proved; nil: that is to be found out. It is used now.
func (m *memory) same(t *Table, lines []string) *Session {
	if m == nil || m.s == nil || len(lines) != 1 || string(m.line) != lines[0] {
		return nil
	}
	s := m.s
	if s.t != t || m.keys != t.keys.Load() || s.Ended() {
		return nil
	}
	now := t.now()
	if t.stale(s, now) {
		return nil
	}
	s.last.Store(now)
	return s
}

// keep notes that a request with these fields is of s; nil: nothing is known of it.
func (m *memory) keep(lines []string, s *Session) {
	if m == nil {
		return
	}
	m.s, m.keys = nil, nil
	if s == nil || len(lines) != 1 || len(lines[0]) > maxMemory {
		return
	}
	m.line, m.s = append(m.line[:0], lines[0]...), s
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
