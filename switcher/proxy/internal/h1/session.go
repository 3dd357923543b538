package h1

import (
	"unsafe"

	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// extra is what an exchange needs where sessions are kept, or previews are led. A connection has none until one is asked for.
type extra struct {
	visit  session.Visit
	cookie string   // a Set-Cookie field for the final answer; "": none
	values []string // scratch of Values
	seen   answerHead
}

func (x *Exchange) more() *extra {
	if x.extra == nil {
		x.extra = new(extra)
	}
	return x.extra
}

func (e *extra) reset() {
	e.visit.Close()
	e.cookie = ""
}

// Visit is the exchange's part in a session.
func (x *Exchange) Visit() *session.Visit { return &x.more().visit }

// SetCookie adds a Set-Cookie field with that value to the final answer, unless the session adds one.
func (x *Exchange) SetCookie(value string) { x.more().cookie = value }

// Values returns the values of the request's fields of that name, which is in its canonical form. They are valid until the exchange is over,
// the slice until the next call. Fields that are about the connection alone, or about how to read the message, are not among them.
func (x *Exchange) Values(name string) []string {
	if x.req == nil {
		return nil
	}
	e := x.more()
	e.values = x.req.values(e.values[:0], x.head, name)
	return e.values
}

// Host returns what the request is meant for, port included, valid until the exchange is over.
func (x *Exchange) Host() string {
	if x.req == nil {
		return ""
	}
	return asText(x.req.Authority(x.head))
}

// answerHead is the head of an answer, for who wants to read in it.
type answerHead struct {
	r *Response
	p []byte
	e *extra
}

func (a *answerHead) Values(name string) []string {
	a.e.values = a.r.values(a.e.values[:0], a.p, name)
	return a.e.values
}

// answered lets the session see the answer whose head lies in p, and returns the Set-Cookie field that is to be added.
func (e *extra) answered(r *Response, p []byte) string {
	if !e.visit.On() {
		return e.cookie
	}
	e.seen = answerHead{r, p, e}
	set := e.visit.Answered(&e.seen)
	e.seen = answerHead{}
	if set == "" {
		return e.cookie
	}
	return set
}

// values appends the values of the fields of that name.
func (l *lines) values(dst []string, head []byte, name string) []string {
	for i := range l.fields {
		f := &l.fields[i]
		if int(f.colon-f.line) == len(name) && (f.kind == plain || f.kind >= forwardedFor) && string(f.name(head)) == name {
			dst = append(dst, asText(f.text(head)))
		}
	}
	return dst
}

// asText is b as a string, as long as b is not changed.
func asText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
