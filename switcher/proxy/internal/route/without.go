package route

import "slices"

// Without returns the parts that Seal of the slot would leave in force: those of the others, in their ratio.
func (t *Table[T]) Without(name string) []Part[T] {
	return scale(slices.DeleteFunc(slices.Clone(t.state.Load().set), func(p Part[T]) bool { return p.Gen.Key.Slot == name }))
}
