package abswap

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// listed bounds how many pieces of work a drain keeps books on.
const listed = 200_000

// ledger decides what a drain does with each piece of work, and keeps the books on what became of it, class by class. It has neither
// goroutines, timers nor sockets: whoever drives it shows it what is in flight, and is told what to end and when to come again. It is not safe
// for concurrent use.
//
// Work is known by its ID, never by an address, and its class may change on the way.
type ledger struct {
	rules    map[Class]ClassRule // with defaults
	began    time.Time
	capFrom  time.Time // what Cap counts from
	now      time.Time
	work     map[uint64]*piece
	done     map[Class]ClassOutcome // what has ended
	sessions int                    // at the last reading
	counted  bool                   // there was one
}

// piece is what a ledger knows of one piece of work.
type piece struct {
	id      uint64
	class   Class
	began   time.Time
	last    time.Time // of the last byte
	in, out int64
	due     time.Time // when ClosePolitely asks it; zero: not decided
	asked   time.Time // when it was asked to end; zero: it was not
	still   bool      // and that for its stillness only
	cut     bool
	opaque  bool // asking it is in vain
	here    bool // in this step
}

// order is what is to be done with one piece of work; each is given once.
type order struct {
	id  uint64
	how Force
}

// newLedger begins the books of a drain. The rules have been checked. capFrom is when the drain began, if that was earlier.
func newLedger(now, capFrom time.Time, rules map[Class]ClassRule) *ledger {
	l := &ledger{rules: map[Class]ClassRule{}, began: now, capFrom: now, now: now, work: map[uint64]*piece{}, done: map[Class]ClassOutcome{}}
	if !capFrom.IsZero() && capFrom.Before(now) {
		l.capFrom = capFrom
	}
	for c, r := range rules {
		l.rules[c] = r.withDefaults()
	}
	return l
}

// classOf returns the class of w, also where its backend does not tell one.
func classOf(w Work) Class {
	switch {
	case slices.Contains(classes(), w.Class):
		return w.Class
	case w.Kind == "upgraded":
		return ClassTunnel
	}
	return ClassRequest
}

// step takes what is in flight now, all of it, and returns what is to be done, by ID, and when the next order will be due if nothing changes;
// the zero time if none will. Work that was there in an earlier step and is not there any more has ended. Work that comes later, as an upgrade
// that was on its way does, is treated like any other.
func (l *ledger) step(now time.Time, all []Work) (orders []order, next time.Time) {
	if now.After(l.now) {
		l.now = now
	}
	for _, p := range l.work {
		p.here = false
	}
	fresh := map[Class][]*piece{}
	for _, w := range all {
		if p := l.take(w, now); p.due.IsZero() {
			fresh[p.class] = append(fresh[p.class], p)
		}
	}
	for id, p := range l.work {
		if !p.here {
			l.ended(p)
			delete(l.work, id)
		}
	}
	for c, some := range fresh {
		l.spread(l.rules[c], some)
	}
	for _, p := range l.work {
		how, due := l.verdict(p)
		if how != 0 {
			orders = append(orders, order{p.id, how})
			_, due = l.verdict(p)
		}
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	slices.SortFunc(orders, func(a, b order) int { return cmp.Compare(a.id, b.id) })
	return orders, next
}

// take notes what w is now.
func (l *ledger) take(w Work, now time.Time) *piece {
	c := classOf(w)
	p := l.work[w.ID]
	if p == nil {
		p = &piece{id: w.ID, began: now.Add(-w.Age)}
		l.work[w.ID] = p
	}
	if p.class != c {
		p.class, p.due = c, time.Time{} // what it has become has a rule of its own
		if r, ruled := l.rules[c]; ruled && r.Policy != ClosePolitely && !l.capped(r) && !p.cut {
			p.asked, p.still = time.Time{}, false // by which it would not have been asked yet
		}
	}
	p.last, p.in, p.out, p.here = now.Add(-w.Quiet), w.In, w.Out, true
	if w.Opaque && !p.opaque && !p.cut {
		p.asked, p.still = time.Time{}, false // for what it was before
	}
	p.opaque = w.Opaque
	if p.still && !p.cut && p.last.After(p.asked) && (c == ClassUpload || c == ClassDownload || c == ClassRequest) {
		p.asked, p.still = time.Time{}, false // it moves again, and being asked has not changed it
	}
	return p
}

// spread gives each piece its moment within what is left of the window, oldest first, evenly.
func (l *ledger) spread(r ClassRule, all []*piece) {
	slices.SortFunc(all, func(a, b *piece) int {
		return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.id, b.id))
	})
	left := max(l.began.Add(r.Window).Sub(l.now), 0)
	for i, p := range all {
		p.due = l.now.Add(time.Duration(float64(left) * float64(i) / float64(len(all))))
	}
}

// verdict returns the order that is due for p, and notes it as given; or when one will be.
func (l *ledger) verdict(p *piece) (how Force, due time.Time) {
	r, ruled := l.rules[p.class]
	switch {
	case p.cut || !ruled:
		return 0, time.Time{}
	case !p.asked.IsZero():
		if r.Grace < 0 {
			return 0, time.Time{}
		}
		if due = p.asked.Add(r.Grace); l.now.Before(due) {
			return 0, due
		}
		p.cut = true
		return ForceCut, time.Time{}
	}
	still := false
	switch r.Policy {
	case FinishMoving:
		last := p.last
		if last.Before(l.began) { // it has its time from the begin of the drain on
			last = l.began
		}
		due, still = last.Add(r.Still), true
	case ClosePolitely:
		if !p.opaque {
			due = p.due
		}
	}
	if end := l.capFrom.Add(r.Cap); r.Cap > 0 && (due.IsZero() || end.Before(due)) {
		due, still = end, false
	}
	if due.IsZero() || l.now.Before(due) {
		return 0, due
	}
	p.asked, p.still = l.now, still
	return ForceHandOver, time.Time{}
}

// capped tells whether the cap of r has passed.
func (l *ledger) capped(r ClassRule) bool { return r.Cap > 0 && !l.now.Before(l.capFrom.Add(r.Cap)) }

// undo takes back orders that could not be given.
func (l *ledger) undo(orders []order) {
	for _, o := range orders {
		switch p := l.work[o.id]; {
		case p == nil:
		case o.how == ForceCut:
			p.cut = false
		default:
			p.asked = time.Time{}
		}
	}
}

// without lists the work whose class has no rule.
func (l *ledger) without() (ids []uint64) {
	for id, p := range l.work {
		if _, ok := l.rules[p.class]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// forced notes that the work without a rule was ended by the drain's deadline.
func (l *ledger) forced(how Force) {
	for _, id := range l.without() {
		p := l.work[id]
		if p.asked.IsZero() {
			p.asked = l.now
		}
		p.cut = p.cut || how == ForceCut
	}
}

// ended notes what became of a piece that is gone.
func (l *ledger) ended(p *piece) {
	o := l.done[p.class]
	switch {
	case p.cut:
		o.Cut++
	case !p.asked.IsZero():
		o.Closed++
	default:
		o.Finished++
	}
	l.done[p.class] = o
}

// sessionsNow notes how many sessions there are.
func (l *ledger) sessionsNow(n int) {
	if gone := l.sessions - n; l.counted && gone > 0 {
		o := l.done[ClassSession]
		o.Finished += gone
		l.done[ClassSession] = o
	}
	l.sessions, l.counted = n, true
}

// sessionsOver reports whether sessions are not waited for any more.
func (l *ledger) sessionsOver(now time.Time) bool {
	r := l.rules[ClassSession]
	return r.Cap > 0 && !now.Before(l.capFrom.Add(r.Cap))
}

// cuts is how much has ended by being cut.
func (l *ledger) cuts() (n int) {
	for _, o := range l.done {
		n += o.Cut
	}
	return n
}

// result tells what became of the work of each class that there was, as of the last step.
func (l *ledger) result() map[Class]ClassOutcome {
	if len(l.done)+len(l.work)+l.sessions == 0 {
		return nil
	}
	out := maps.Clone(l.done)
	for _, p := range l.work {
		o := out[p.class]
		o.Left++
		if !p.asked.IsZero() {
			o.Asked++
		}
		o.Oldest = max(o.Oldest, l.now.Sub(p.began))
		o.Quiet = max(o.Quiet, l.now.Sub(p.last))
		o.In += p.in
		o.Out += p.out
		out[p.class] = o
	}
	if l.sessions > 0 {
		o := out[ClassSession]
		o.Left = l.sessions
		out[ClassSession] = o
	}
	return out
}
