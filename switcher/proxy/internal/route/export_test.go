package route

import "math/rand/v2"

// EnterCareless is Enter with the fault that the second look cures: what it picked is what it takes.
func (t *Table[T]) EnterCareless(e *Entry[T], avoid *Generation[T]) *Generation[T] {
	g := t.state.Load().pick(avoid)
	if g == nil {
		return nil
	}
	if t.hooks != nil && t.hooks.Picked != nil {
		t.hooks.Picked(g)
	}
	e.gen, e.shard = g, &g.shards[rand.Uint32()&uint32(len(g.shards)-1)]
	e.shard.entered.Add(1)
	e.link()
	return g
}

// Raw returns the counters of each shard: entered, left, upgraded, left of those.
func (g *Generation[T]) Raw() (out [][4]uint64) {
	for i := range g.shards {
		s := &g.shards[i]
		out = append(out, [4]uint64{s.entered.Load(), s.left.Load(), s.upgraded.Load(), s.upgrLeft.Load()})
	}
	return out
}
