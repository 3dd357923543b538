package iistest

import (
	"net"
	"slices"
	"strings"
)

// endpoint is an emulated address that the machine listens at.
type endpoint struct {
	ip   string
	port int
}

// registration is a URL prefix in HTTP.sys: a binding of a started site.
type registration struct {
	site   *site
	ip     string // "*": any
	port   int
	host   string // "": any
	secure bool
}

// rebuild makes the table of registrations anew. mu is held.
func (s *Server) rebuild() {
	s.table = nil
	for _, t := range s.sites {
		if t.state != started || !s.up {
			continue
		}
		for _, b := range t.conf.bindings {
			if ip, port, host, ok := b.web(); ok {
				s.table = append(s.table, registration{t, ip, port, host, b.secure()})
			}
		}
	}
}

// rank tells how well r fits a request; 0: not at all. A host beats a wildcard host, that beats the address, that beats anything.
func (r registration) rank(at endpoint, secure bool, host string) int {
	if r.port != at.port || r.secure != secure || r.ip != "*" && r.ip != at.ip {
		return 0
	}
	rank := 1
	switch {
	case r.host == "":
	case r.host == host:
		rank = 5
	case strings.HasPrefix(r.host, "*.") && strings.HasSuffix(host, r.host[1:]) && !strings.Contains(strings.TrimSuffix(host, r.host[1:]), "."):
		rank = 3
	default:
		return 0
	}
	if r.ip != "*" {
		rank++
	}
	return rank
}

// match finds the site that a request belongs to, nil if none. mu is held.
func (s *Server) match(at endpoint, secure bool, host string) *site {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	var best *site
	top := 0
	for _, r := range s.table {
		if n := r.rank(at, secure, host); n > top {
			best, top = r.site, n
		}
	}
	return best
}

// listening tells whether anything is registered at an endpoint, and whether it speaks TLS there. mu is held.
func (s *Server) listening(at endpoint) (open, secure bool) {
	for _, r := range s.table {
		if r.port == at.port && (r.ip == "*" || r.ip == at.ip) {
			open = true
			secure = secure || r.secure
		}
	}
	if !open && s.up && s.q.StoppedSiteRefuses == Off {
		open = true
		secure = slices.ContainsFunc(s.conf.sites, func(t siteConf) bool {
			return slices.ContainsFunc(t.bindings, func(b binding) bool {
				_, port, _, ok := b.web()
				return ok && port == at.port && b.secure()
			})
		})
	}
	return open, secure
}
