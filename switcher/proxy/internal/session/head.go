package session

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
)

// Head is the head of a request or of an answer. Values returns the values of the fields of that name, which is in its canonical form:
// "Set-Cookie". The slice is not changed. http.Header is one.
type Head interface {
	Values(name string) []string
}

const (
	maxCookies = 16 << 10 // bytes of Cookie fields that are looked at
	maxTwins   = 4        // cookies of one name that are tried
	maxKey     = 4096     // bytes of an application's own cookie or field
)

// Cookies calls f for the value of each cookie of that name, until it returns false. It allocates nothing.
func Cookies(h Head, name string, f func(value string) bool) {
	left, twins := maxCookies, maxTwins
	for _, line := range h.Values("Cookie") {
		if left -= len(line); left < 0 {
			return
		}
		for line != "" {
			var one string
			one, line, _ = strings.Cut(line, ";")
			n, v, ok := strings.Cut(one, "=")
			if !ok || strings.Trim(n, " \t") != name {
				continue
			}
			v = strings.Trim(v, " \t")
			if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			if twins--; twins < 0 || !f(v) {
				return
			}
		}
	}
}

// cookie is the first value of a cookie of that name that is not empty.
func cookie(h Head, name string) (value string) {
	Cookies(h, name, func(v string) bool {
		value = v
		return v == ""
	})
	return value
}

// setCookie finds what an answer does to a cookie: the value that it sets, or that it clears it. The last word counts.
func setCookie(h Head, name string, now time.Time) (value string, set, cleared bool) {
	for _, line := range h.Values("Set-Cookie") {
		n, _, ok := strings.Cut(line, "=")
		if !ok || strings.Trim(n, " \t") != name {
			continue
		}
		c, err := http.ParseSetCookie(line)
		if err != nil {
			continue
		}
		switch {
		case c.Value == "" || c.MaxAge < 0 || c.MaxAge == 0 && !c.Expires.IsZero() && !c.Expires.After(now):
			value, set, cleared = "", false, true
		default:
			value, set, cleared = c.Value, true, false
		}
	}
	return value, set, cleared
}

// ARRValue is the value that ARR's affinity cookie has for a server of a farm: the hash of the server's address, as it stands in the farm's
// configuration, in small letters.
func ARRValue(server string) string {
	h := sha256.New()
	for _, u := range utf16.Encode([]rune(strings.ToLower(server))) {
		h.Write([]byte{byte(u), byte(u >> 8)})
	}
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
}
