package abswap

// MemoryForTest returns the journal that a Swapper without one made for itself.
func (s *Swapper) MemoryForTest() Journal { return s.journal() }
