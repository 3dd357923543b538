package nginx

import (
	"context"
	"slices"
)

// Workers lists the worker processes that take connections, and those that shut down.
func (s *Switcher) Workers() (taking, quitting []int, err error) {
	master, err := s.master()
	if err != nil {
		return nil, nil, err
	}
	all, err := workersOf(master)
	for _, x := range all {
		if x.quitting {
			quitting = append(quitting, x.pid)
		} else {
			taking = append(taking, x.pid)
		}
	}
	return taking, quitting, err
}

// Ask asks the front door once.
func (s *Switcher) Ask(ctx context.Context) (Mark, error) { return s.ask(ctx) }

// Accepting tells whether any of these worker processes may still take connections.
func (s *Switcher) Accepting(pids []int) (bool, error) {
	master, err := s.master()
	if err != nil {
		return false, err
	}
	all, err := workersOf(master)
	if err != nil {
		return false, err
	}
	table, err := listenersOf(master)
	if err != nil {
		return false, err
	}
	for _, x := range all {
		if slices.Contains(pids, x.pid) && (!x.quitting || listening(x, table)) {
			return true, nil
		}
	}
	return false, nil
}
