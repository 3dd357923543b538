// Package multi joins errors. It is the one place that knows go-multierror: that library prints several lines, its Append writes into its
// first argument, and a nil *multierror.Error inside an error is not nil; none of that leaves this room.
package multi

import (
	"strings"

	"github.com/hashicorp/go-multierror"
)

// Join returns an error that prints all errs on one line, "a; b", and in which errors.Is and errors.As find each of them. Nil errors
// are left out, joined ones are flattened. With one error left it is that one; with none, nil.
func Join(errs ...error) error {
	var m *multierror.Error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if j, ok := err.(*multierror.Error); ok {
			m = multierror.Append(m, j.Errors...)
			continue
		}
		m = multierror.Append(m, err)
	}
	if m == nil {
		return nil
	}
	if len(m.Errors) == 1 {
		return m.Errors[0]
	}
	m.ErrorFormat = oneLine
	return m
}

// All returns the errors that Join joined, or err alone; nil for nil.
func All(err error) []error {
	if err == nil {
		return nil
	}
	if m, ok := err.(*multierror.Error); ok {
		return append([]error(nil), m.Errors...)
	}
	return []error{err}
}

func oneLine(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}
