package nginx

import "context"

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
