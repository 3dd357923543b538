//go:build !linux

package h1

// pipes are none here.
type pipes struct{}

func (pipes) close() {}

// canSplice says no: bodies are copied here.
func canSplice(_, _ *link) bool { return false }

// splice is never called.
func (s *Server) splice(_, _ *link, _ int64, _ func(int64)) (rerr, werr error) { return nil, nil }
