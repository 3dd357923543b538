package framing

import "slices"

// lineVectors are about the request line and what stands before it.
func lineVectors() []Vector {
	line := func(l string) string { return request(l, "Host: "+site, "") }
	return slices.Concat(
		refused([]int{400},
			[3]string{"line of HTTP/0.9", "GET /page\r\n\r\n", "an answer without a head, and the end unknown"},
			[3]string{"line of HTTP/0.9 with fields", line("GET /page"), "a request without a version"},
			[3]string{"line with a blank at its end", line("GET /page HTTP/1.1 "), "a version to who trims"},
			[3]string{"line with a blank at its start", line(" GET /page HTTP/1.1"), "a method to who trims"},
			[3]string{"line with two blanks", line("GET  /page HTTP/1.1"), "an empty target to some"},
			[3]string{"line with two blanks before the version", line("GET /page  HTTP/1.1"), "a target with a blank to some"},
			[3]string{"line with tabs", line("GET\t/page\tHTTP/1.1"), "blanks to isspace"},
			[3]string{"line with a tab before the version", line("GET /page\tHTTP/1.1"), "blank to isspace"},
			[3]string{"line with a form feed", line("GET /page\fHTTP/1.1"), "blank to isspace"},
			[3]string{"line with a blank in the target", line("GET /a b HTTP/1.1"), "which of them is the target?"},
			[3]string{"line with a second version", line("GET /page HTTP/1.1 HTTP/1.0"), "which of them is the version?"},
			[3]string{"line without a method", line(" /page HTTP/1.1"), "no method"},
			[3]string{"line without a target", line("GET HTTP/1.1"), "the version is the target to some"},
			[3]string{"line with an odd method", line("GE(T /page HTTP/1.1"), "not a token"},
			[3]string{"line with a colon in the method", line("GET: /page HTTP/1.1"), "a field to some"},
			[3]string{"line with a NUL in the method", line("GET\x00 /page HTTP/1.1"), "GET to a C string"},
			[3]string{"line with a NUL in the target", line("GET /page\x00.html HTTP/1.1"), "/page to a C string"},
			[3]string{"line with a control character", line("GET /pa\x01ge HTTP/1.1"), "not a target"},
			[3]string{"line with DEL", line("GET /pa\x7fge HTTP/1.1"), "not a target"},
			[3]string{"line with a bare CR", line("GET /page\rX HTTP/1.1"), "a line end to some"},
			[3]string{"line ended by a bare LF", "GET /page HTTP/1.1\nHost: site.test\r\n\r\n", "a line end to most, not to all"},
			[3]string{"line ended by a bare CR", "GET /page HTTP/1.1\rHost: site.test\r\n\r\n", "a line end to some"},
			[3]string{"line ended by CR CR LF", "GET /page HTTP/1.1\r\r\nHost: site.test\r\n\r\n", "a version to who trims"},
			[3]string{"line behind a bare LF", "\n" + line("GET /page HTTP/1.1"), "an empty line to most, not to all"},
			[3]string{"line behind a NUL", "\x00" + line("GET /page HTTP/1.1"), "part of the method"},
			[3]string{"line behind a byte order mark", "\xef\xbb\xbf" + line("GET /page HTTP/1.1"), "part of the method"},
			[3]string{"no line at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "TLS on the plain door"},
		),
		refused([]int{400, 505},
			[3]string{"version in small letters", line("GET /page http/1.1"), "the version is case-sensitive"},
			[3]string{"version without a minor part", line("GET /page HTTP/1"), "not a version"},
			[3]string{"version of three parts", line("GET /page HTTP/1.1.1"), "not a version"},
			[3]string{"version of two digits", line("GET /page HTTP/1.10"), "1.1 to who compares a prefix, 1.10 to others"},
			[3]string{"version with a zero before", line("GET /page HTTP/01.1"), "1.1 to who reads numbers"},
			[3]string{"version with a sign", line("GET /page HTTP/+1.1"), "1.1 to strtol"},
			[3]string{"version with a comma", line("GET /page HTTP/1,1"), "not a version"},
			[3]string{"version of another protocol", line("GET /page HTTPS/1.1"), "not a version"},
			[3]string{"version 0.9", line("GET /page HTTP/0.9"), "an answer without a head"},
			[3]string{"version 1.", line("GET /page HTTP/1."), "not a version"},
			[3]string{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no HTTP/2 on this door, or another reader's"},
			[3]string{"version 2.0", line("GET /page HTTP/2.0"), "RFC 9110, 15.6.6"},
			[3]string{"version 3.0", line("GET /page HTTP/3.0"), "RFC 9110, 15.6.6"},
		),
		[]Vector{
			{Name: "line behind an empty line", Raw: "\r\n" + get(""), Why: "clients of old send one; RFC 9112, 2.2 takes it", Requests: got(), Or: []int{400}},
			{Name: "version 1.2", Raw: line("GET /page HTTP/1.2"), Why: "to be read as 1.1, which it is compatible with", Requests: got(), Or: []int{400, 505}},
			{Name: "method in small letters", Raw: line("get /page HTTP/1.1"), Why: "methods are case-sensitive: another one",
				Requests: []Request{{Method: "get", Target: "/page", Host: site}}},
			{Name: "method unknown", Raw: request("FROB-1.x /page HTTP/1.1", "Host: site.test\r\nContent-Length: 5", "hello"), Why: "any token is one, and it may have a body",
				Requests: []Request{{Method: "FROB-1.x", Target: "/page", Host: site, Body: "hello"}}},
			{Name: "HTTP/1.0", Raw: line("GET /page HTTP/1.0"), Why: "one answer and the end, whatever stands behind", Requests: got(), Closes: true},
		})
}

// fieldVectors are about fields that have nothing to do with framing, but for how they are written.
func fieldVectors() []Vector {
	kept := func(name, value string) []Request {
		r := got()
		r[0].Fields = map[string]string{name: value}
		return r
	}
	return slices.Concat(
		refused([]int{400},
			[3]string{"field folded", get("X-A: 1\r\n 2"), "obsolete line folding: one field or two"},
			[3]string{"field folded with a tab", get("X-A: 1\r\n\t2"), "obsolete line folding: one field or two"},
			[3]string{"field folded onto the request line", "GET /page HTTP/1.1\r\n X-A: 1\r\nHost: site.test\r\n\r\n", "a part of the line, a field, or nothing"},
			[3]string{"field of blanks", get("X-A: 1\r\n   \r\nX-B: 2"), "the end of the head to who trims"},
			[3]string{"field without a colon", get("X-A"), "not a field"},
			[3]string{"field without a name", get(": 1"), "not a field"},
			[3]string{"field with a blank in its name", get("X A: 1"), "not a token"},
			[3]string{"field with a space before the colon", get("X-A : 1"), "another name to one, the same to the other"},
			[3]string{"field with a tab before the colon", get("X-A\t: 1"), "another name to one, the same to the other"},
			[3]string{"field with a NUL in its name", get("X\x00A: 1"), "not a token"},
			[3]string{"field with a control character in its name", get("X\x0bA: 1"), "not a token"},
			[3]string{"field with a bracket in its name", get("X(A): 1"), "not a token"},
			[3]string{"field with a high byte in its name", get("X-\xe4: 1"), "not a token"},
			[3]string{"field with a slash in its name", get("X/A: 1"), "not a token"},
			[3]string{"field with a NUL", get("X-A: 1\x002"), "RFC 9110, 5.5"},
			[3]string{"field with a bare CR", get("X-A: 1\r2"), "a line end to some"},
			[3]string{"field with a bare CR and a smuggled field", get("X-A: 1\rX-B: 2"), "a line end to some"},
			[3]string{"field ended by a bare LF", get("X-A: 1\nX-B: 2"), "a line end to most, not to all"},
			[3]string{"field ended by CR CR LF", get("X-A: 1\r"), "a bare CR in the value"},
			[3]string{"field ended by LF CR", "GET /page HTTP/1.1\r\nHost: site.test\n\rX-A: 1\r\n\r\n", "two bytes, but not those"},
			[3]string{"field with a control character", get("X-A: 1\x012"), "no part of a value"},
			[3]string{"field with DEL", get("X-A: 1\x7f2"), "no part of a value"},
			[3]string{"head ended by two bare LF", "GET /page HTTP/1.1\nHost: site.test\n\n", "a head to most, not to all"},
			[3]string{"head ended by a bare LF", "GET /page HTTP/1.1\r\nHost: site.test\r\n\n", "a head to most, not to all"},
			[3]string{"head ended by LF CR LF", "GET /page HTTP/1.1\r\nHost: site.test\n\r\n", "a head to most, not to all"},
			[3]string{"head ended by bare CRs", "GET /page HTTP/1.1\r\nHost: site.test\r\rGET /smuggled HTTP/1.1\r\n\r\n", "a head to some"},
		),
		[]Vector{
			{Name: "field with a tab inside", Raw: get("X-A: 1\t2"), Why: "a tab is a blank", Requests: kept("X-A", "1\t2")},
			{Name: "field with high bytes", Raw: get("X-A: \xc3\xa4\xff"), Why: "opaque", Requests: kept("X-A", "\xc3\xa4\xff")},
			{Name: "field with blanks around", Raw: get("X-A: \t 1 \t "), Why: "no part of the value", Requests: kept("X-A", "1")},
			{Name: "field empty", Raw: get("X-A:"), Why: "a value may be empty", Requests: kept("X-A", "")},
			{Name: "field with colons", Raw: get("X-A: b: c:"), Why: "the first colon ends the name", Requests: kept("X-A", "b: c:")},
			{Name: "field with every sign of a token", Raw: get("!#$%&'*+-.^_`|~9a: 1"), Why: "a name is any token", Requests: kept("!#$%&'*+-.^_`|~9a", "1")},
			{Name: "field named as hop-by-hop", Raw: get("Connection: X-A, close-not\r\nX-A: 1\r\nX-B: 2"), Why: "it ends here, its neighbour does not",
				Requests: []Request{{Method: "GET", Target: "/page", Host: site, Absent: []string{"X-A"}, Fields: map[string]string{"X-B": "2"}}}},
			{Name: "upgrade of a request with a body", Raw: post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", "hello"),
				Why:      "bytes behind the head would be the body's and the new protocol's at once",
				Requests: []Request{{Method: "POST", Target: "/form", Host: site, Body: "hello", Absent: []string{"Upgrade"}}}, Or: []int{400}},
		})
}

// hostVectors are about who is asked.
func hostVectors() []Vector {
	host := func(fields string) string { return request("GET /page HTTP/1.1", fields, "") }
	asked := func(h string) []Request { return []Request{{Method: "GET", Target: "/page", Host: h}} }
	return slices.Concat(
		refused([]int{400},
			[3]string{"host missing", host("X-A: 1"), "RFC 9112, 3.2"},
			[3]string{"no field at all", "GET /page HTTP/1.1\r\n\r\n", "RFC 9112, 3.2"},
			[3]string{"host twice", host("Host: site.test\r\nHost: evil.test"), "one takes the first, one the last"},
			[3]string{"host twice, the same", host("Host: site.test\r\nHost: site.test"), "RFC 9112, 3.2"},
			[3]string{"host twice, in two cases", host("Host: site.test\r\nhOST: evil.test"), "names know no case"},
			[3]string{"host with a blank", host("Host: site.test evil.test"), "which of them?"},
			[3]string{"host with a comma", host("Host: site.test, evil.test"), "what a careless proxy makes of two"},
			[3]string{"host with a path", host("Host: site.test/x"), "a part of the target to who builds a URL"},
			[3]string{"host with a user", host("Host: user@site.test"), "what stands before the @ is the host to some"},
			[3]string{"host with a question mark", host("Host: site.test?x"), "a query to who builds a URL"},
			[3]string{"host with a number sign", host("Host: site.test#x"), "a fragment to who builds a URL"},
			[3]string{"host with a backslash", host("Host: site.test\\x"), "a slash to some"},
			[3]string{"host with an odd port", host("Host: site.test:80x"), "80 to strtol"},
			[3]string{"host with a signed port", host("Host: site.test:+80"), "80 to strtol"},
			[3]string{"host with two ports", host("Host: site.test:80:81"), "which of them?"},
			[3]string{"host with a port above 65535", host("Host: site.test:65616"), "80 to 16 bits"},
			[3]string{"host with an open bracket", host("Host: [::1"), "no address"},
			[3]string{"host with something behind the bracket", host("Host: [::1]evil"), "no address"},
			[3]string{"host with a space before the colon", host("Host : site.test"), "another name to one, the same to the other"},
			[3]string{"host folded", host("Host: site\r\n .test"), "obsolete line folding"},
			[3]string{"host with a NUL", host("Host: site.test\x00.evil.test"), "site.test to a C string"},
			[3]string{"host with angle brackets", host("Host: <site.test>"), "no part of a host"},
		),
		[]Vector{
			{Name: "host in capitals", Raw: host("HOST: site.test"), Why: "names know no case", Requests: asked(site)},
			{Name: "host with a port", Raw: host("Host: site.test:8080"), Why: "a part of it", Requests: asked("site.test:8080")},
			{Name: "host of version 6", Raw: host("Host: [2001:db8::1]:8080"), Why: "colons in brackets are no ports", Requests: asked("[2001:db8::1]:8080")},
			{Name: "host last", Raw: host("X-A: 1\r\nX-B: 2\r\nHost: site.test"), Why: "the order means nothing", Requests: asked(site)},
			{Name: "host named as hop-by-hop", Raw: host("Host: site.test\r\nConnection: Host"), Why: "who drops the fields named asks nobody", Requests: asked(site)},
			{Name: "host empty", Raw: host("Host:"), Why: "a target without an authority may have it", Requests: asked(""), Or: []int{400}},
			{Name: "host missing in HTTP/1.0", Raw: request("GET /page HTTP/1.0", "X-A: 1", ""), Why: "HTTP/1.0 did not know it", Requests: asked(""), Closes: true, Or: []int{400}},
			{Name: "host beside an underscore namesake", Raw: host("Host: site.test\r\nHost_: evil.test\r\nX-Host: evil.test"), Why: "other fields", Requests: asked(site)},
		})
}

// targetVectors are about what is asked for.
func targetVectors() []Vector {
	line := func(target string) string { return request("GET "+target+" HTTP/1.1", "Host: "+site, "") }
	asked := func(method, target, host string) []Request {
		return []Request{{Method: method, Target: target, Host: host}}
	}
	return slices.Concat(
		refused([]int{400},
			[3]string{"target without a slash", line("page"), "no form of a target"},
			[3]string{"target of a query only", line("?a=b"), "no form of a target"},
			[3]string{"target with a number sign", line("/page#part"), "a fragment to one, a part of the path to the other"},
			[3]string{"target of a star for GET", line("*"), "only OPTIONS asks for it"},
			[3]string{"target with an empty authority", line("http:///page"), "whom?"},
			[3]string{"target of another scheme", line("ftp://site.test/page"), "not served here"},
			[3]string{"target of a scheme without slashes", line("http:page"), "no form of a target"},
			[3]string{"target as authority for GET", line("site.test:80"), "only CONNECT asks for it"},
			[3]string{"target with a blank authority", line("http://site.test%20evil.test/page"), "which of them?"},
			[3]string{"target with an odd port", line("http://site.test:80x/page"), "80 to strtol"},
		),
		refused([]int{400, 405, 501},
			[3]string{"target of a CONNECT", request("CONNECT site.test:443 HTTP/1.1", "Host: site.test:443", ""), "no tunnels to elsewhere"},
		),
		[]Vector{
			{Name: "target in absolute form", Raw: line("http://site.test/page"), Why: "a form for proxies, to be taken by all", Requests: asked("GET", "/page", site)},
			{Name: "target in absolute form of another host", Raw: line("http://other.test/page?a=b"), Why: "the target names the host, not the field: RFC 9112, 3.2.2",
				Requests: asked("GET", "/page?a=b", "other.test")},
			{Name: "target in absolute form of another port", Raw: line("http://other.test:8080/page"), Why: "the port is a part of it",
				Requests: asked("GET", "/page", "other.test:8080")},
			{Name: "target in absolute form in capitals", Raw: line("HTTP://other.test/page"), Why: "schemes know no case", Requests: asked("GET", "/page", "other.test")},
			{Name: "target in absolute form without a path", Raw: line("http://other.test"), Why: "the root", Requests: asked("GET", "/", "other.test")},
			{Name: "target in absolute form of a query", Raw: line("http://other.test?a=b"), Why: "the root", Requests: asked("GET", "/?a=b", "other.test")},
			{Name: "target in absolute form with a user", Raw: line("http://site.test@other.test/page"), Why: "what stands before the @ is the host to some",
				Requests: asked("GET", "/page", "other.test"), Or: []int{400}},
			{Name: "target in absolute form, host twice", Raw: request("GET http://site.test/page HTTP/1.1", "Host: site.test\r\nHost: evil.test", ""),
				Why: "two hosts stay two hosts", Want: Refused, Status: []int{400}},
			{Name: "target of https on the plain door", Raw: line("https://site.test/page"), Why: "misdirected", Requests: asked("GET", "/page", site), Or: []int{400, 421}},
			{Name: "target of a star", Raw: request("OPTIONS * HTTP/1.1", "Host: site.test", ""), Why: "the whole server", Requests: asked("OPTIONS", "*", site)},
			{Name: "target of two slashes", Raw: line("//evil.test/page"), Why: "a path, not an authority", Requests: asked("GET", "//evil.test/page", site)},
			{Name: "target with a URL in its path", Raw: line("/http://evil.test/page"), Why: "a path", Requests: asked("GET", "/http://evil.test/page", site)},
			{Name: "target with dots", Raw: line("/a/../b/./c?d=/../e"), Why: "passed on as it was written", Requests: asked("GET", "/a/../b/./c?d=/../e", site)},
			{Name: "target with escapes", Raw: line("/a%2fb%2F%20%0d%0aX:%20y"), Why: "passed on as it was written", Requests: asked("GET", "/a%2fb%2F%20%0d%0aX:%20y", site)},
			{Name: "target with an empty query", Raw: line("/page?"), Why: "passed on as it was written", Requests: asked("GET", "/page?", site)},
			{Name: "target with a bad escape", Raw: line("/a%zz"), Why: "no URL, but no harm", Requests: asked("GET", "/a%zz", site), Or: []int{400}},
			{Name: "target with high bytes", Raw: line("/\xc3\xa4\xff"), Why: "no URL, but no harm", Requests: asked("GET", "/\xc3\xa4\xff", site), Or: []int{400}},
		})
}
