package framing

import (
	"fmt"
	"slices"
	"strings"
)

// streamVectors are about several requests on one connection.
func streamVectors() []Vector {
	one, two := got()[0], Request{Method: "GET", Target: "/second", Host: site}
	second := request("GET /second HTTP/1.1", "Host: "+site, "")
	form := posted("hello")[0]
	plain, chunks := post("Content-Length: 5", "hello"), post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")
	ok := func(name, raw, why string, r ...Request) Vector {
		return Vector{Name: name, Raw: raw, Why: why, Requests: r}
	}
	not := func(name, raw, why string, want Outcome, r ...Request) Vector {
		return Vector{Name: name, Raw: raw, Why: why, Want: want, Status: []int{400}, Requests: r}
	}
	many := strings.Repeat(get(""), 50)
	return []Vector{
		ok("pipeline of two", get("")+second, "both, in this order", one, two),
		ok("pipeline of fifty", many+second, "all, in this order", append(slices.Repeat([]Request{one}, 50), two)...),
		ok("pipeline behind a body of known length", plain+second, "the next begins where the body ends", form, two),
		ok("pipeline behind chunks", chunks+second, "the next begins where the body ends", form, two),
		ok("pipeline of bodies", plain+chunks+plain+second, "the next begins where the body ends", form, form, form, two),
		ok("pipeline behind an empty body", post("Content-Length: 0", "")+second, "an empty body ends at once", posted("")[0], two),
		ok("pipeline behind a POST without a length", post("X: y", "")+second, "no body, not one until the end of the connection", posted("")[0], two),
		ok("pipeline behind a HEAD", request("HEAD /page HTTP/1.1", "Host: "+site, "")+second, "its answer has no body, whatever its length says",
			Request{Method: "HEAD", Target: "/page", Host: site}, two),
		ok("pipeline behind a trailer", post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")+second, "the next begins where the trailers end", form, two),
		ok("pipeline behind a 100", post("Expect: 100-continue\r\nContent-Length: 5", "hello")+second, "a client need not wait for the 100", form, two),
		ok("pipeline behind an empty line", plain+"\r\n"+second, "clients of old send one behind a form; RFC 9112, 2.2 takes it", form, two),
		not("pipeline into a double length", get("")+post("Content-Length: 5\r\nContent-Length: 6", "hello!"), "what is right is served, what is behind is not", Refused, one),
		not("pipeline into CL.TE", plain+post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"), "what is right is served, what is behind is not", Refused, form),
		not("pipeline into a bad chunk", get("")+post("Transfer-Encoding: chunked", "5\r\nhello\r\nX\r\n"), "what is right is served, what is behind is not", BrokenOff, one),
		ok("pipeline behind one byte too many", plain+"X"+second, "it is the next request's, whose method is XGET", form,
			Request{Method: "XGET", Target: "/second", Host: site}),
		{Name: "close, then another", Raw: get("Connection: close") + second, Why: "what stands behind a close is nobody's", Requests: []Request{one}, Closes: true},
		{Name: "close among others, then another", Raw: get("Connection: x, CLOSE ,y") + second, Why: "options know no case", Requests: []Request{one}, Closes: true},
		{Name: "close in a second field, then another", Raw: get("Connection: x\r\nConnection: close") + second, Why: "fields of one name are one list",
			Requests: []Request{one}, Closes: true},
		{Name: "HTTP/1.0, then another", Raw: request("GET /page HTTP/1.0", "Host: "+site, "") + second, Why: "one answer and the end", Requests: []Request{one}, Closes: true},
		{Name: "HTTP/1.0 with a body, then another", Raw: request("POST /form HTTP/1.0", "Host: "+site+"\r\nContent-Length: 5", "hello") + second,
			Why: "one answer and the end", Requests: []Request{form}, Closes: true},
	}
}

// sizeVectors are about heads that are long, or that come in small pieces.
func sizeVectors() []Vector {
	var fields, tiny []string
	for i := range 60 {
		fields = append(fields, fmt.Sprintf("X-Field-%d: %s", i, strings.Repeat("v", 40)))
	}
	for i := range 200_000 {
		tiny = append(tiny, fmt.Sprintf("a%d:b", i))
	}
	last := got()
	last[0].Fields = map[string]string{"X-Field-0": strings.Repeat("v", 40), "X-Field-59": strings.Repeat("v", 40)}
	long := "/" + strings.Repeat("p", 4000)
	cookie := strings.Repeat("c", 5000)
	kept := got()
	kept[0].Fields = map[string]string{"Cookie": cookie}
	return []Vector{
		{Name: "head of sixty fields", Raw: get(strings.Join(fields, "\r\n")), Why: "plain, but in pieces", Requests: last},
		{Name: "target of four thousand bytes", Raw: request("GET "+long+" HTTP/1.1", "Host: "+site, ""), Why: "long, but not too long",
			Requests: []Request{{Method: "GET", Target: long, Host: site}}},
		{Name: "field of five thousand bytes", Raw: get("Cookie: " + cookie), Why: "long, but not too long", Requests: kept},
		{Name: "field of three million bytes", Raw: get("Cookie: " + strings.Repeat("c", 3<<20)), Why: "memory without limit", Want: Refused, Status: []int{400, 431}},
		{Name: "field name of three million bytes", Raw: get(strings.Repeat("n", 3<<20) + ": 1"), Why: "memory without limit", Want: Refused, Status: []int{400, 431}},
		{Name: "fields without end", Raw: get(strings.Join(tiny, "\r\n")), Why: "memory without limit", Want: Refused, Status: []int{400, 431}},
		{Name: "target of three million bytes", Raw: request("GET /"+strings.Repeat("p", 3<<20)+" HTTP/1.1", "Host: "+site, ""), Why: "memory without limit",
			Want: Refused, Status: []int{400, 414, 431}},
		{Name: "line that never ends", Raw: strings.Repeat("G", 3<<20), Why: "memory without limit", Want: Refused, Status: []int{400, 414, 431, 501}},
		{Name: "empty lines without end", Raw: strings.Repeat("\r\n", 1<<20) + get(""), Why: "work without limit", Want: Refused, Status: []int{400, 431}},
	}
}
