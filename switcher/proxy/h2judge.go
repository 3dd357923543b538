package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// judgeH2 says what is wrong with a request that came by HTTP/2; status 0: nothing. net/http has looked at the names and values of fields, and at
// what concerns the connection. What is left could mean something else once it is written as HTTP/1.1: there a blank ends a target, and a
// length says where a body ends.
func judgeH2(r *http.Request) (status int, text string) {
	if !isToken(r.Method) {
		return http.StatusBadRequest, "the method is not valid"
	}
	if !(r.RequestURI == "*" && r.Method == http.MethodOptions || strings.HasPrefix(r.RequestURI, "/") && h1.ValidTarget(r.RequestURI)) {
		return http.StatusBadRequest, "the request target is not valid"
	}
	if r.Host == "" || !h1.ValidHost(r.Host) {
		return http.StatusBadRequest, "the host is not valid"
	}
	if hosts := r.Header["Host"]; len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host) {
		return http.StatusBadRequest, "there is more than one host"
	}
	if lengths := r.Header["Content-Length"]; len(lengths) > 0 {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if len(lengths) > 1 || err != nil || int64(n) != r.ContentLength { // one without a body has no length but 0
			return http.StatusBadRequest, "Content-Length is not valid"
		}
	}
	if len(r.Header["Expect"]) > 0 { // net/http has taken out what it knows
		return http.StatusExpectationFailed, "the expectation is unknown"
	}
	if protocol := r.Header[protocolField]; len(protocol) > 0 {
		switch {
		case r.Method != http.MethodConnect:
			return http.StatusBadRequest, "only CONNECT has a protocol"
		case len(r.Header["Content-Length"]) > 0:
			return http.StatusBadRequest, "CONNECT has no length"
		case !isWebsocket(protocol):
			return http.StatusNotImplemented, "the protocol is not one for CONNECT here: websocket is"
		}
	}
	n := 0
	for _, values := range r.Header {
		n += len(values)
	}
	if n > h1.MaxFields {
		return http.StatusRequestHeaderFieldsTooLarge, "the head has too many fields"
	}
	return 0, ""
}
