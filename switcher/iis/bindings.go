package iis

import (
	"errors"
	"fmt"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
)

// publicDoors are the doors of those bindings by which others than this machine come in; all, if there is no such.
func (f *front) publicDoors(all []appcmd.Binding) ([]door, error) {
	var public []appcmd.Binding
	for _, b := range all {
		if b.HTTP() && !private(b) {
			public = append(public, b)
		}
	}
	if len(public) == 0 {
		public = all
	}
	doors, err := doorsOf(public, f.app.Host)
	if err == nil && len(doors) == 0 {
		err = fmt.Errorf("the public site has no binding of http or https: %w", abswap.ErrPermanent)
	}
	return doors, err
}

// noneIsFine drops errors that say that no slot is active, or that what is active is none.
func noneIsFine(err error) error {
	if errors.Is(err, abswap.ErrNoActive) || errors.Is(err, abswap.ErrUnknownSlot) || errors.Is(err, abswap.ErrMixed) {
		return nil
	}
	return err
}

// isUnsure reports whether an effect may have happened although there is an error.
func isUnsure(err error) bool {
	return errors.Is(err, abswap.ErrUnknownOutcome) || errors.Is(err, appcmd.ErrUnknownOutcome)
}

// holdsBinding returns the site's own writing of b, if it has it.
func holdsBinding(site appcmd.Site, b appcmd.Binding) (appcmd.Binding, bool) {
	for _, own := range site.Bindings {
		if own.Same(b) {
			return own, true
		}
	}
	return appcmd.Binding{}, false
}

// bindingList joins bindings for a reader.
func bindingList(all []appcmd.Binding) string {
	texts := make([]string, len(all))
	for i, b := range all {
		texts[i] = b.String()
	}
	return strings.Join(texts, ", ")
}
