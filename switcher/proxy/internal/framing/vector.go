package framing

import (
	"slices"
	"strings"
)

// Outcome is what is to become of a vector.
type Outcome int

const (
	// Forwarded: the application gets exactly Vector.Requests, the client one answer to each, and the connection stays in step.
	Forwarded Outcome = iota
	// Refused: the application gets Vector.Requests, which come before the fault, and nothing else, not even a part of a head. The client gets
	// their answers, then one of Vector.Status, then the end of the connection.
	Refused
	// BrokenOff: as Refused, but the fault lies in a body. Its head and a part of it may have reached the application, which must see it break
	// off and never be whole. Where the client has closed its sending side it may get no answer at all.
	BrokenOff
)

// String returns the outcome in a word or two.
func (o Outcome) String() string {
	switch o {
	case Forwarded:
		return "forwarded"
	case Refused:
		return "refused"
	case BrokenOff:
		return "broken off"
	}
	return "no outcome"
}

// Vector is what one client sends on one connection, and what is to become of it.
type Vector struct {
	Name string
	Why  string // what a careless reader makes of it
	Raw  string // the bytes
	End  bool   // the client closes its sending side behind them

	Want     Outcome
	Status   []int     // of the refusal: any of these
	Requests []Request // what the application gets, in this order
	Closes   bool      // Forwarded: the connection ends behind the last answer
	Or       []int     // Forwarded: refusing it with one of these, and forwarding nothing, is right too; nil: it is not
}

// Request is the meaning of a request.
type Request struct {
	Method, Target, Host, Body string

	Fields map[string]string // fields that must be there, exactly once, with this value; names in any case
	Absent []string          // fields that must not be there
}

// Vectors returns all vectors.
func Vectors() []Vector {
	return slices.Concat(lengthVectors(), codingVectors(), chunkVectors(), trailerVectors(), lineVectors(), fieldVectors(), hostVectors(),
		targetVectors(), streamVectors(), sizeVectors())
}

// site is the host that vectors ask for.
const site = "site.test"

// post is a POST with the fields given, one a line without their ends, and what follows the head.
func post(fields, body string) string {
	return request("POST /form HTTP/1.1", "Host: "+site+"\r\n"+fields, body)
}

// get is a GET with the fields given beside Host.
func get(fields string) string { return request("GET /page HTTP/1.1", "Host: "+site+"\r\n"+fields, "") }

func request(line, fields, body string) string {
	var b strings.Builder
	b.WriteString(line + "\r\n")
	b.WriteString(strings.TrimSuffix(fields, "\r\n"))
	if fields != "" {
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// posted is the meaning of post with that body.
func posted(body string) []Request {
	return []Request{{Method: "POST", Target: "/form", Host: site, Body: body}}
}

// got is the meaning of get.
func got() []Request { return []Request{{Method: "GET", Target: "/page", Host: site}} }

// smuggled is a request that must never be one.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n"

// refused makes vectors of rows of a name, the raw bytes and why, all refused with one of the statuses.
func refused(status []int, rows ...[3]string) []Vector {
	return made(Vector{Want: Refused, Status: status}, rows)
}

// brokenOff is refused for faults in a body.
func brokenOff(rows ...[3]string) []Vector {
	return made(Vector{Want: BrokenOff, Status: []int{400}}, rows)
}

// forwarded makes vectors of rows of a name, the raw bytes and why, all forwarded with that meaning.
func forwarded(r []Request, rows ...[3]string) []Vector {
	return made(Vector{Want: Forwarded, Requests: r}, rows)
}

func made(v Vector, rows [][3]string) []Vector {
	var out []Vector
	for _, r := range rows {
		v.Name, v.Raw, v.Why = r[0], r[1], r[2]
		out = append(out, v)
	}
	return out
}
