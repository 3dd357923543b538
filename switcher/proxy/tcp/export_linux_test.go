package tcp

// Spliced returns how many pipes lie at rest, which only splicing leaves behind.
func Spliced(s *Switcher) int {
	s.flow.pipes.mu.Lock()
	defer s.flow.pipes.mu.Unlock()
	return len(s.flow.pipes.idle)
}
