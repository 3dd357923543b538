package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// How Drain keeps the books by class, and carries out the rules.

// ruled reports whether some class has a rule.
func (w *drainWait) ruled() bool { return len(w.o.Classes) > 0 }

// openBook begins the books, where the Drainer can tell classes.
func (w *drainWait) openBook() error {
	if err := checkRules(w.o.Classes); err != nil {
		return fmt.Errorf("%w: %w", ErrPermanent, err)
	}
	by, ok := As[ClassDrainer](w.d)
	if !ok {
		if w.ruled() {
			return fmt.Errorf("%T cannot end work by class: %w", w.d, errors.ErrUnsupported)
		}
		return nil
	}
	w.by, w.book = by, newLedger(w.began, w.o.Began, w.o.Classes)
	return nil
}

// byClass looks at all that is in flight, and gives the orders that are due. Without rules a list that cannot be had is no failure.
func (w *drainWait) byClass(ctx context.Context) error {
	if w.book == nil {
		return nil
	}
	lctx, cancel := w.bounded(ctx)
	all, err := w.by.List(lctx, w.slot, listed)
	cancel()
	if err == nil && len(all) > 0 && all[0].ID == 0 {
		err = fmt.Errorf("%T lists work without IDs: %w", w.by, errors.ErrUnsupported)
	}
	if err != nil {
		return w.bookFailed(err)
	}
	orders, next := w.book.step(time.Now(), all)
	w.next = next
	ids := map[Force][]uint64{}
	for _, o := range orders {
		ids[o.how] = append(ids[o.how], o.id)
	}
	for _, how := range [...]Force{ForceCut, ForceHandOver} {
		if len(ids[how]) == 0 {
			continue
		}
		if err := w.by.End(ctx, w.slot, how, ids[how]...); err != nil {
			w.book.undo(orders)
			w.next = time.Time{} // they come again with the next reading
			return w.bookFailed(fmt.Errorf("ending %d pieces of work: %w", len(ids[how]), err))
		}
		orders = slices.DeleteFunc(orders, func(o order) bool { return o.how == how }) // these are given
	}
	return nil
}

// bookFailed returns err if trying again cannot help, and the drain needs its books.
func (w *drainWait) bookFailed(err error) error {
	switch {
	case !w.ruled() && errors.Is(err, errors.ErrUnsupported):
		w.by, w.book = nil, nil
		return nil
	case !w.ruled():
		return nil
	case errors.Is(err, ErrSlotLive), errors.Is(err, ErrUnknownSlot), errors.Is(err, ErrPermanent), errors.Is(err, errors.ErrUnsupported):
		return err
	}
	return nil
}

// tellClasses brings the result up to date and tells it.
func (w *drainWait) tellClasses() {
	if w.book == nil {
		return
	}
	if w.res.Drained {
		w.book.step(time.Now(), nil)
	}
	w.res.Classes = w.book.result()
	if w.ruled() {
		w.res.Cut = min(w.book.cuts(), w.gone)
	}
	if w.o.OnClasses != nil {
		w.o.OnClasses(w.res.Classes)
	}
}

// onlyRuled reports whether all that is left, as far as the books know, has a rule of its own.
func (w *drainWait) onlyRuled() bool {
	return w.ruled() && w.failed == nil && len(w.book.work) > 0 && len(w.book.without()) == 0
}

// forceOthers ends what has no rule of its own.
func (w *drainWait) forceOthers(ctx context.Context, how Force, name string) error {
	w.res.Forced = append(w.res.Forced, name)
	if ids := w.book.without(); len(ids) > 0 {
		if err := w.by.End(ctx, w.slot, how, ids...); err != nil {
			return fmt.Errorf("%w, and to %s what is left: %w", ErrDrainTimeout, name, err)
		}
	}
	w.book.forced(how)
	return nil
}
