package route

import "slices"

// SetSick says whether g is to be left out of what was set, as long as another one that has a part is not: the others share its part in their
// ratio. Where all that have a part are sick all of them keep it. What has no part gets none by it.
func (t *Table[T]) SetSick(g *Generation[T], sick bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.sick == sick {
		return
	}
	g.sick = sick
	st := t.state.Load()
	if now := withoutSick(st.set); !slices.Equal(now, st.parts) {
		t.publish(st.set)
	}
}

// Ejected reports whether g has a part that others share at the moment.
func (t *Table[T]) Ejected(g *Generation[T]) bool {
	st := t.state.Load()
	return st.part(g) > 0 && !slices.ContainsFunc(st.parts, func(p Part[T]) bool { return p.Gen == g })
}

// withoutSick returns the parts that are in force if these were set.
func withoutSick[T any](set []Part[T]) []Part[T] {
	well := slices.DeleteFunc(slices.Clone(set), func(p Part[T]) bool { return p.Gen.sick })
	if len(well) == 0 || len(well) == len(set) {
		return set
	}
	return scale(well)
}
