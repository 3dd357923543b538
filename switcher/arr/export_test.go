package arr

import "time"

// Script is the text that PowerShell is given, and Arguments how.
var (
	Script    = script
	Arguments = arguments
)

// Shell is the process that makes the runtime calls.
type Shell = shell

// NewShell makes one.
func NewShell(path string, timeout, start time.Duration) *Shell {
	s := newShell(path, timeout)
	s.start = start
	return s
}

// Close ends it.
func (s *shell) Close() error { return s.close() }

// Process is its process id now; 0: none runs.
func (s *shell) Process() int {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	if s.now == nil {
		return 0
	}
	return s.now.cmd.Process.Pid
}

// MemoryOf is the file that a Switcher keeps states in.
func MemoryOf(s *Switcher) string { return s.cfg.Memory }
