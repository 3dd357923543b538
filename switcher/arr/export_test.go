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

// SetLimits sets how long calls may take from now on, and starts.
func (s *shell) SetLimits(timeout, start time.Duration) { s.timeout, s.start = timeout, start }

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

// TableText is the table as the package's comment has it.
func TableText() string { return tableText() }
