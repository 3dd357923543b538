package route

// EnterCareless is Enter with the fault that the second look cures: what it picked is what it takes.
func (t *Table[T]) EnterCareless(e *Entry[T], avoid *Generation[T]) *Generation[T] {
	g := t.state.Load().pick(avoid)
	if g == nil {
		return nil
	}
	if t.hooks != nil && t.hooks.Picked != nil {
		t.hooks.Picked(g)
	}
	e.gen, e.shard = g, g.shards.any()
	e.shard.entered.Add(1)
	e.link()
	return g
}

// Raw returns the counters of each shard: entered, left, upgraded, left of those.
func (g *Generation[T]) Raw() (out [][4]uint64) {
	for _, s := range *g.shards.all.Load() {
		out = append(out, [4]uint64{s.entered.Load(), s.left.Load(), s.upgraded.Load(), s.upgrLeft.Load()})
	}
	return out
}

// Grow makes the shards as many as there can be.
func (g *Generation[T]) Grow() {
	for len(*g.shards.all.Load()) < g.shards.most {
		g.shards.grow()
	}
}
