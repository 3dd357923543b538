package iistest

import (
	"slices"
	"time"
)

// FaultKind is what goes wrong with a command.
type FaultKind uint8

// Kinds of faults.
const (
	// SharingViolation: the commit fails with 80070020, exit 32, and the file is as it was. The success line stands before the error.
	SharingViolation FaultKind = iota
	// RPCFailed: a command that asks the runtime fails with 800706be, exit 1726, and does nothing.
	RPCFailed
	// RPCTerminated: the same with 80010006, the connection having been terminated, exit 2147549190.
	RPCTerminated
	// ObjectUnknown: starting, stopping or recycling fails with 800710d8, exit 4312, as if WAS had not seen the object yet.
	ObjectUnknown
	// HangBefore: the command hangs before it has changed anything, for Fault.For. If its process is killed meanwhile nothing changes.
	HangBefore
	// HangAfter: the command hangs after it has done its work, for Fault.For, before its process ends.
	HangAfter
)

// Fault is something that goes wrong with commands to come.
type Fault struct {
	Kind  FaultKind
	Match func(args []string) bool // nil: every command in which it can happen
	Times int                      // 0: once; negative: until ClearFaults
	For   time.Duration            // how long HangBefore and HangAfter hang, in emulated time; 0: until the process is killed
}

// Inject adds a fault. Several are used up in the order in which they came.
func (s *Server) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults removes all faults that are left.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault uses up a fault of that kind, nil if there is none for the command.
func (r *run) fault(kind FaultKind) *Fault {
	s := r.s
	s.mu.Lock()
	faults := slices.Clone(s.faults)
	s.mu.Unlock()
	for _, f := range faults {
		if f.Kind != kind || f.Match != nil && !f.Match(slices.Clone(r.args)) { // the caller's Match is called without a lock
			continue
		}
		s.mu.Lock()
		live := slices.Contains(s.faults, f) && f.Times != 0
		if live && f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.DeleteFunc(s.faults, func(o *Fault) bool { return o == f })
			}
		}
		s.mu.Unlock()
		if live {
			return f
		}
	}
	return nil
}

// hang waits as the fault says; false: the command's process was killed.
func (r *run) hang(kind FaultKind) bool {
	f := r.fault(kind)
	if f == nil {
		return true
	}
	if f.For > 0 {
		return r.s.sleep(r.ctx, f.For)
	}
	select {
	case <-r.ctx.Done():
	case <-r.s.ctx.Done():
	}
	return false
}
