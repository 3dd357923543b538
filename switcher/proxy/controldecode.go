package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// decodeOrder reads one JSON object into out and refuses all that could be meant otherwise than it is read: fields that are not known, the
// same one twice, something behind the end, text that is not UTF-8.
func decodeOrder(text []byte, out any) error {
	if !utf8.Valid(text) {
		return errors.New("the body is not UTF-8")
	}
	if err := noneTwice(text); err != nil {
		return fmt.Errorf("the body is no order: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("the body is no order: %w", err)
	}
	return nil
}

// noneTwice checks that text is one JSON object, and that no object in it has a name twice, also not in other case.
func noneTwice(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil: an array
		value bool            // a value comes next
	}
	var open []level
	for n := 0; ; n++ {
		tok, err := d.Token()
		if err == io.EOF && n > 0 && len(open) == 0 {
			return nil
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if n > 0 && len(open) == 0 {
			return errors.New("something stands behind its end")
		}
		if n == 0 && tok != json.Delim('{') {
			return errors.New("it is not an object")
		}
		if len(open) > 0 {
			top := &open[len(open)-1]
			if name, ok := tok.(string); ok && top.names != nil && !top.value {
				name = strings.ToLower(name)
				if top.names[name] {
					return fmt.Errorf("%q stands in it twice", name)
				}
				top.names[name], top.value = true, true
				continue
			}
			top.value = false
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}
