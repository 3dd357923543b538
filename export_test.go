package abswap

import "time"

// MemoryForTest returns the journal that a Swapper without one made for itself.
func (s *Swapper) MemoryForTest() Journal { return s.journal() }

// Ledger is a drain's books, driven by hand.
type Ledger struct{ l *ledger }

// Order is one of its orders.
type Order struct {
	ID  uint64
	How Force
}

// NewLedger begins one.
func NewLedger(now, capFrom time.Time, rules map[Class]ClassRule) *Ledger {
	return &Ledger{newLedger(now, capFrom, rules)}
}

// Step is the ledger's.
func (l *Ledger) Step(now time.Time, all []Work) (out []Order, next time.Time) {
	orders, next := l.l.step(now, all)
	for _, o := range orders {
		out = append(out, Order{o.id, o.how})
	}
	return out, next
}

// Undo takes back orders that could not be given.
func (l *Ledger) Undo(orders []Order) {
	for _, o := range orders {
		l.l.undo([]order{{o.ID, o.How}})
	}
}

// Result is the ledger's.
func (l *Ledger) Result() map[Class]ClassOutcome { return l.l.result() }
