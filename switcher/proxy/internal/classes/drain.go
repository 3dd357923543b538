package classes

import (
	"cmp"
	"slices"
	"time"
)

// Drain is one drain of one generation. It is not safe for concurrent use.
type Drain struct {
	rules     [count]Rule
	began     time.Time
	cancelled bool
	now       time.Time
	work      map[uint64]*piece
	done      [count]Outcome // what has ended
}

// piece is what a drain knows of one piece of work.
type piece struct {
	view  View
	due   time.Time // when Close asks it; zero: not decided
	asked time.Time // when it was asked to end; zero: it was not
	cut   bool
	seen  bool // in this step
}

// New begins a drain. The rules have been checked.
func New(now time.Time, rules Rules) *Drain {
	d := &Drain{began: now, now: now, work: map[uint64]*piece{}}
	for c := range count {
		d.rules[c] = rules[c].withDefaults()
	}
	return d
}

// Step takes what is in flight now, all of it, and returns what is to be done, by ID, and when the next order will be due if nothing changes; the
// zero time if none will. Work that was there in an earlier step and is not there any more has ended. Work that comes later than the first
// step, as an upgrade that was on its way does, is treated like any other.
func (d *Drain) Step(now time.Time, views []View) (orders []Order, next time.Time) {
	if now.After(d.now) {
		d.now = now
	}
	for _, p := range d.work {
		p.seen = false
	}
	var fresh [count][]*piece
	for _, v := range views {
		if v.Class < 0 || v.Class >= count {
			v.Class = Request
		}
		p := d.work[v.ID]
		if p == nil {
			p = &piece{}
			d.work[v.ID] = p
		}
		if p.view.Class != v.Class {
			p.due = time.Time{} // what it has become has a rule of its own
		}
		p.view, p.seen = v, true
		if p.due.IsZero() {
			fresh[v.Class] = append(fresh[v.Class], p)
		}
	}
	for id, p := range d.work {
		if !p.seen {
			d.ended(p)
			delete(d.work, id)
		}
	}
	if d.cancelled {
		return nil, time.Time{}
	}
	for c, all := range fresh {
		d.spread(d.rules[c], all)
	}
	for _, p := range d.work {
		do, due := d.verdict(p)
		switch {
		case do != 0:
			orders = append(orders, Order{ID: p.view.ID, Class: p.view.Class, Do: do})
			if _, due = d.verdict(p); due.IsZero() {
				continue
			}
			fallthrough
		case !due.IsZero():
			if next.IsZero() || due.Before(next) {
				next = due
			}
		}
	}
	slices.SortFunc(orders, func(a, b Order) int { return cmp.Compare(a.ID, b.ID) })
	return orders, next
}

// spread gives each piece its moment within what is left of the window, oldest first, evenly.
func (d *Drain) spread(r Rule, all []*piece) {
	slices.SortFunc(all, func(a, b *piece) int {
		return cmp.Or(a.view.Began.Compare(b.view.Began), cmp.Compare(a.view.ID, b.view.ID))
	})
	left := max(d.began.Add(max(r.Window, 0)).Sub(d.now), 0)
	for i, p := range all {
		p.due = d.now.Add(time.Duration(float64(left) * float64(i) / float64(len(all))))
	}
}

// verdict returns the order that is due for p, and notes it as given; or when one will be.
func (d *Drain) verdict(p *piece) (do Do, due time.Time) {
	r := d.rules[p.view.Class]
	switch {
	case p.cut:
		return 0, time.Time{}
	case !p.asked.IsZero():
		if r.Grace == 0 {
			return 0, time.Time{}
		}
		due = p.asked.Add(r.Grace)
		if d.now.Before(due) {
			return 0, due
		}
		p.cut = true
		return Cut, time.Time{}
	}
	switch r.Policy {
	case FinishMoving:
		last := p.view.Last
		if last.Before(p.view.Began) {
			last = p.view.Began
		}
		if last.Before(d.began) { // it has its time from the begin of the drain on
			last = d.began
		}
		due = last.Add(r.Still)
	case Close:
		due = p.due
	}
	if end := d.began.Add(r.Cap); r.Cap > 0 && (due.IsZero() || end.Before(due)) {
		due = end
	}
	if due.IsZero() || d.now.Before(due) {
		return 0, due
	}
	p.asked = d.now
	return AskToEnd, time.Time{}
}

// ended notes what became of a piece that is gone.
func (d *Drain) ended(p *piece) {
	o := &d.done[p.view.Class]
	switch {
	case p.cut:
		o.Cut++
	case !p.asked.IsZero():
		o.Closed++
	default:
		o.Finished++
	}
}

// Cancel takes back all that has not been ordered: the slot goes live again. What was asked to end before may still do so; nothing is cut any
// more. Step goes on noting what ends.
func (d *Drain) Cancel() { d.cancelled = true }

// Drained reports whether nothing was left at the last step.
func (d *Drain) Drained() bool { return len(d.work) == 0 }

// Result tells what became of the work of each class that there was, as of the last step.
func (d *Drain) Result() map[Class]Outcome {
	all := d.done
	for _, p := range d.work {
		o := &all[p.view.Class]
		o.Left++
		if !p.asked.IsZero() {
			o.Asked++
		}
		o.Oldest = max(o.Oldest, d.now.Sub(p.view.Began))
		o.Quiet = max(o.Quiet, d.now.Sub(p.view.Last))
		o.In += p.view.In
		o.Out += p.view.Out
	}
	out := map[Class]Outcome{}
	for c, o := range all {
		if o != (Outcome{}) {
			out[Class(c)] = o
		}
	}
	return out
}
