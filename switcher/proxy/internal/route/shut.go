package route

// shut says why entries may not enter a table, whatever has a part.
type shut uint8

const (
	held shut = 1 << iota // only those that Pass may
	away                  // none may: whoever brought it is to bring it elsewhere
)

// shutOut reports whether e may not enter, and notes why.
func (e *Entry[T]) shutOut(s shut) bool {
	e.Away = s&away != 0
	if e.Away {
		e.Full = nil // there is nothing to wait for here
	}
	e.Held = !e.Away && !e.Pass && s&held != 0
	return e.Away || e.Held
}

// SetHeld publishes the state anew, so that nothing enters any generation, or so that it may again. At return of SetHeld(true) no entry that
// does not Pass enters, also none that had picked before. What has entered is not touched.
func (t *Table[T]) SetHeld(on bool) { t.setShut(held, on) }

// SetAway publishes the state anew, so that nothing enters any generation, or so that it may again. At return of SetAway(true) no entry
// enters, also none that had picked before, and Enter says so by Entry.Away: the table is not the one that such work belongs to any more. So
// the counts only fall from there on (but see Count), and nobody who looks for the right table again is lost. What has entered is not touched.
func (t *Table[T]) SetAway(on bool) { t.setShut(away, on) }

func (t *Table[T]) setShut(s shut, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := *t.state.Load()
	if st.shut &^= s; on {
		st.shut |= s
	}
	t.state.Store(&st)
	t.changed()
}
