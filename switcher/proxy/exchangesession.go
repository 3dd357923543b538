package proxy

import "github.com/abswap/abswap/switcher/proxy/internal/session"

// Values, Host, Visit and SetCookie are what a guide asks of a request; see guest.

func (x *exchange) Values(name string) []string { return x.r.Header[name] }
func (x *exchange) Host() string                { return x.r.Host }
func (x *exchange) Visit() *session.Visit       { return &x.visit }
func (x *exchange) SetCookie(value string)      { x.cookie = value }

// answeredBy lets the session see the answer, and returns the Set-Cookie field that is to be added.
func (x *exchange) answeredBy(h session.Head) string {
	if set := x.visit.Answered(h); set != "" {
		return set
	}
	return x.cookie
}
