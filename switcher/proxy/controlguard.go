package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// refusal is a request that is no call of ours.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// overUnix reports whether r came over a Unix socket.
func overUnix(r *http.Request) bool {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && a.Network() == "unix"
}

// guard lets through only what a program on this machine sends that may: not other machines, not pages in a browser, whatever name they have
// found for this address, and not users without the token.
func (c *control) guard(r *http.Request) error {
	unix := overUnix(r)
	if !unix {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() {
			return refuse(http.StatusForbidden, "only programs on this machine may call")
		}
	}
	if !c.host(r.Host, unix) {
		return refuse(http.StatusMisdirectedRequest, "host %.100q is not this one's", r.Host)
	}
	if _, ok := r.Header["Origin"]; ok {
		return refuse(http.StatusForbidden, "pages in a browser may not call")
	}
	if site := r.Header["Sec-Fetch-Site"]; len(site) > 0 && (len(site) > 1 || site[0] != "none") {
		return refuse(http.StatusForbidden, "pages in a browser may not call")
	}
	switch {
	case c.token != [32]byte{}:
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], c.token[:]) != 1 || !strings.EqualFold(scheme, "Bearer") || len(r.Header["Authorization"]) != 1 {
			return refuse(http.StatusUnauthorized, "the token is missing or wrong")
		}
	case !unix:
		return refuse(http.StatusForbidden, "over TCP a token is needed, and the proxy has none: set ControlOptions.Token")
	}
	return nil
}

// host reports whether a Host field names this machine, or what the caller of ControlHandler has allowed.
func (c *control) host(field string, unix bool) bool {
	name := field
	if h, _, err := net.SplitHostPort(field); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().IsLoopback()
	}
	return name == "localhost" || unix && name == controlHost || c.hosts[name]
}

// body reads an order, which must come as JSON, whole, soon, and not be large.
func (c *control) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, ok := params["charset"]; err != nil || kind != "application/json" || len(r.Header["Content-Type"]) != 1 ||
		ok && !strings.EqualFold(charset, "utf-8") {
		return nil, refuse(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must not be encoded")
	}
	if r.ContentLength > maxOrder {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxOrder)
	}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(c.patience)); err == nil {
		defer rc.SetReadDeadline(time.Time{})
	} else if !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	switch _, large := errors.AsType[*http.MaxBytesError](err); {
	case large:
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxOrder)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, refuse(http.StatusRequestTimeout, "the body did not come within %s", c.patience)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the body cannot be read: %v", err)
	}
	return text, nil
}
