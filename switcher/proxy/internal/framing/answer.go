package framing

import (
	"fmt"
	"slices"
	"strings"
)

// AnswerOutcome is what is to become of an application's answer.
type AnswerOutcome int

const (
	// Passed: the client gets the answer, whole, with AnswerVector's status and body.
	Passed AnswerOutcome = iota
	// Replaced: the client gets 502 and nothing of the answer.
	Replaced
	// Cut: the fault lies in the body. The client gets a part of the answer and sees that it is not whole, or 502.
	Cut
)

// String returns the outcome in a word.
func (o AnswerOutcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Replaced:
		return "replaced"
	case Cut:
		return "cut"
	}
	return "no outcome"
}

// AnswerVector is what an application answers to one request, and what the client is to get. Whatever that is, the next requests, on the same
// connection or on another one, get their own answers.
type AnswerVector struct {
	Name   string
	Why    string // what a careless reader makes of it
	Method string // of the request; "": GET
	Raw    string // the bytes
	End    bool   // the application closes the connection behind them

	Want   AnswerOutcome
	Status int    // Passed
	Body   string // Passed
	Fields map[string]string
	Absent []string // fields that must not be there
	Or     bool     // Passed: 502 is right too
}

// answerOK is a 200 with the fields given and what follows the head.
func answerOK(fields, body string) string {
	if fields != "" {
		fields += "\r\n"
	}
	return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body
}

// AnswerVectors returns all vectors.
func AnswerVectors() []AnswerVector {
	return slices.Concat(lineAnswers(), lengthAnswers(), chunkAnswers(), bodilessAnswers(), surplusAnswers(), fieldAnswers())
}

// replaced and cut make vectors of rows of a name, the raw bytes and why. The connection ends behind the bytes, so that nobody waits for more.
func replaced(rows ...[3]string) []AnswerVector { return answers(Replaced, rows) }
func cut(rows ...[3]string) []AnswerVector      { return answers(Cut, rows) }

func answers(want AnswerOutcome, rows [][3]string) []AnswerVector {
	var out []AnswerVector
	for _, r := range rows {
		out = append(out, AnswerVector{Name: r[0], Raw: r[1], Why: r[2], End: true, Want: want})
	}
	return out
}

func lineAnswers() []AnswerVector {
	line := func(l string) string { return l + "\r\nContent-Length: 5\r\n\r\nhello" }
	return append(replaced(
		[3]string{"no answer", "", "nothing was heard"},
		[3]string{"half a line", "HTTP/1.1 20", "nothing was heard to its end"},
		[3]string{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", "where does it end?"},
		[3]string{"a 100 only", "HTTP/1.1 100 Continue\r\n\r\n", "no final answer"},
		[3]string{"of another protocol", line("SSH-2.0-OpenSSH_9.2"), "not HTTP"},
		[3]string{"of HTTP/0.9", "hello\r\n\r\n", "a body without a head"},
		[3]string{"without a version", line("200 OK"), "not a status line"},
		[3]string{"with half a version", line("HTTP/1 200 OK"), "not a version"},
		[3]string{"of version 2", line("HTTP/2 200 OK"), "not this protocol"},
		[3]string{"with a version in small letters", line("http/1.1 200 OK"), "not a version"},
		[3]string{"with a short status", line("HTTP/1.1 20 OK"), "not a status"},
		[3]string{"with a long status", line("HTTP/1.1 2000 OK"), "200 to who takes three digits"},
		[3]string{"with a status of letters", line("HTTP/1.1 abc OK"), "not a status"},
		[3]string{"with a signed status", line("HTTP/1.1 +20 OK"), "not a status"},
		[3]string{"with no space behind the status", line("HTTP/1.1 200OK"), "200 to who takes three digits"},
		[3]string{"that changes to a protocol nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello", "the client speaks HTTP still"},
		[3]string{"with a head without end", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 3<<20) + "\r\n\r\n", "memory without limit"},
		[3]string{"with a line without end", "HTTP/1.1 200 " + strings.Repeat("a", 3<<20), "memory without limit"},
	),
		AnswerVector{Name: "without a reason", Raw: line("HTTP/1.1 200 "), Why: "it may be empty", Status: 200, Body: "hello"},
		AnswerVector{Name: "without the space before the reason", Raw: line("HTTP/1.1 200"), Why: "many send it", Status: 200, Body: "hello", Or: true},
		AnswerVector{Name: "with an unknown status", Raw: line("HTTP/1.1 299 Fine"), Why: "any of its hundred", Status: 299, Body: "hello"},
		AnswerVector{Name: "of HTTP/1.0", Raw: line("HTTP/1.0 200 OK"), End: true, Why: "to be taken", Status: 200, Body: "hello"},
		AnswerVector{Name: "behind a 100 nobody asked for", Raw: "HTTP/1.1 100 Continue\r\n\r\n" + line("HTTP/1.1 200 OK"), Why: "interim, not final", Status: 200, Body: "hello"},
		AnswerVector{Name: "behind hints", Raw: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + line("HTTP/1.1 200 OK"), Why: "interim, not final", Status: 200, Body: "hello"},
	)
}

func lengthAnswers() []AnswerVector {
	length := func(fields string) string { return answerOK(fields, "hello") }
	return slices.Concat(replaced(
		[3]string{"CL twice, differing", length("Content-Length: 5\r\nContent-Length: 6"), "one takes the first, one the last"},
		[3]string{"CL as a list of two lengths", length("Content-Length: 5, 6"), "one takes the first, one the last"},
		[3]string{"CL with a plus", length("Content-Length: +5"), "strtol takes it"},
		[3]string{"CL with a minus", length("Content-Length: -5"), "a signed reader goes backwards"},
		[3]string{"CL of letters", length("Content-Length: five"), "not a length"},
		[3]string{"CL with letters behind", length("Content-Length: 5x"), "5 to strtol"},
		[3]string{"CL above 64 bits", length("Content-Length: 18446744073709551621"), "5 to who does not look for overflow"},
		[3]string{"TE unknown", length("Transfer-Encoding: cow"), "how long is the body?"},
		[3]string{"TE chunked not last", answerOK("Transfer-Encoding: chunked, cow", "5\r\nhello\r\n0\r\n\r\n"), "the end cannot be found"},
	), cut(
		[3]string{"CL with less behind it", answerOK("Content-Length: 50", "hello"), "half a body is not the body"},
		[3]string{"CL with nothing behind it", answerOK("Content-Length: 50", ""), "half a body is not the body"},
		[3]string{"CL with a megabyte less", answerOK("Content-Length: 3000000", strings.Repeat("h", 2_000_000)), "half a body is not the body"},
	), []AnswerVector{
		{Name: "CL plain", Raw: length("Content-Length: 5"), Why: "the plain case", Status: 200, Body: "hello"},
		{Name: "CL zero", Raw: answerOK("Content-Length: 0", ""), Why: "an empty body", Status: 200},
		{Name: "CL twice, the same", Raw: length("Content-Length: 5\r\nContent-Length: 5"), Why: "to be made one, or refused", Status: 200, Body: "hello", Or: true},
		{Name: "CL and TE", Raw: answerOK("Content-Length: 3\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), Why: "the chunks count, or nothing", Status: 200, Body: "hello", Or: true},
		{Name: "neither CL nor TE", Raw: answerOK("X-A: 1", "hello"), End: true, Why: "to the end of the connection", Status: 200, Body: "hello"},
		{Name: "neither CL nor TE, empty", Raw: answerOK("X-A: 1", ""), End: true, Why: "to the end of the connection", Status: 200},
		{Name: "neither CL nor TE, HTTP/1.0", Raw: "HTTP/1.0 200 OK\r\n\r\nhello", End: true, Why: "to the end of the connection", Status: 200, Body: "hello"},
		{Name: "CL named as hop-by-hop", Raw: length("Connection: Content-Length\r\nContent-Length: 5"), Why: "who drops the fields named drops the framing", Status: 200, Body: "hello"},
		{Name: "CL and close", Raw: length("Connection: close\r\nContent-Length: 5"), End: true, Why: "the slot's connection ends, the client's need not", Status: 200, Body: "hello"},
	})
}

func chunkAnswers() []AnswerVector {
	te := func(body string) string { return answerOK("Transfer-Encoding: chunked", body) }
	const end = "0\r\n\r\n"
	return slices.Concat(cut(
		[3]string{"chunk size with a minus", te("5\r\nhello\r\n-5\r\nhello\r\n" + end), "a signed reader goes backwards"},
		[3]string{"chunk size with 0x", te("5\r\nhello\r\n0x5\r\nhello\r\n" + end), "the last chunk to one"},
		[3]string{"chunk size empty", te("5\r\nhello\r\n\r\n"), "the last chunk to who reads nothing as 0"},
		[3]string{"chunk size above 64 bits", te("5\r\nhello\r\n10000000000000005\r\nhello\r\n" + end), "5 to who does not look for overflow"},
		[3]string{"chunk size of letters", te("5\r\nhello\r\nfive\r\nhello\r\n" + end), "15 to strtol"},
		[3]string{"chunk data too long", te("5\r\nhello!\r\n" + end), "what is the sixth byte?"},
		[3]string{"chunks that stop in the data", te("5\r\nhello\r\n5\r\nhel"), "half a body is not the body"},
		[3]string{"chunks that stop between two", te("5\r\nhello\r\n"), "half a body is not the body"},
		[3]string{"chunks that stop in a size", te("5\r\nhello\r\n1"), "half a body is not the body"},
	), []AnswerVector{
		{Name: "chunks", Raw: te("5\r\nhello\r\n" + end), Why: "the plain case", Status: 200, Body: "hello"},
		{Name: "chunks, none", Raw: te(end), Why: "an empty body", Status: 200},
		{Name: "chunks with extensions", Raw: te("5;a=b\r\nhello\r\n0;c\r\n\r\n"), Why: "to be ignored", Status: 200, Body: "hello"},
		{Name: "chunks with a trailer", Raw: te("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), Why: "must not become a field of the head", Status: 200, Body: "hello", Absent: []string{"X-Sum"}},
		{Name: "chunks in capitals", Raw: answerOK("TRANSFER-ENCODING: CHUNKED", "5\r\nhello\r\n"+end), Why: "codings know no case", Status: 200, Body: "hello"},
		{Name: "chunks of one byte", Raw: te("1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n" + end), Why: "boundaries mean nothing", Status: 200, Body: "hello"},
		{Name: "chunk that looks like an answer", Raw: te(fmt.Sprintf("%x\r\n%s\r\n", len(evil), evil) + end), Why: "data is opaque", Status: 200, Body: evil},
	})
}

// evil is an answer that nobody must get as his own.
const evil = "HTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil"

func bodilessAnswers() []AnswerVector {
	return []AnswerVector{
		{Name: "204", Raw: "HTTP/1.1 204 No Content\r\n\r\n", Why: "no body, not one until the end", Status: 204},
		{Name: "204 with a length", Raw: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Why: "no body, whatever it says", Status: 204, Or: true},
		{Name: "304 with a length", Raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Why: "the length of what is not sent", Status: 304},
		{Name: "304 with chunks", Raw: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", Why: "the coding of what is not sent", Status: 304},
		{Name: "HEAD with a length", Method: "HEAD", Raw: answerOK("Content-Length: 5", ""), Why: "the length of what is not sent", Status: 200, Fields: map[string]string{"Content-Length": "5"}},
		{Name: "HEAD with chunks", Method: "HEAD", Raw: answerOK("Transfer-Encoding: chunked", ""), Why: "the coding of what is not sent", Status: 200},
		{Name: "HEAD with neither", Method: "HEAD", Raw: answerOK("X-A: 1", ""), Why: "no body, not one until the end", Status: 200},
		{Name: "HEAD with a body", Method: "HEAD", Raw: answerOK("Content-Length: 5", "hello"), Why: "surplus to who knows the method", Status: 200},
		{Name: "HEAD with an answer as its body", Method: "HEAD", Raw: answerOK(fmt.Sprintf("Content-Length: %d", len(evil)), evil), Why: "the next client's answer to who knows the method", Status: 200},
		{Name: "304 with an answer as its body", Raw: fmt.Sprintf("HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n%s", len(evil), evil), Why: "the next client's answer", Status: 304},
		{Name: "204 with an answer as its body", Raw: fmt.Sprintf("HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n%s", len(evil), evil), Why: "the next client's answer", Status: 204, Or: true},
	}
}

func surplusAnswers() []AnswerVector {
	return []AnswerVector{
		{Name: "two answers", Raw: answerOK("Content-Length: 5", "hello") + evil, Why: "the second is the next client's", Status: 200, Body: "hello"},
		{Name: "two answers, chunked first", Raw: answerOK("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n") + evil, Why: "the second is the next client's", Status: 200, Body: "hello"},
		{Name: "one byte too many", Raw: answerOK("Content-Length: 5", "hello!"), Why: "the next answer begins with it", Status: 200, Body: "hello"},
		{Name: "an empty line too many", Raw: answerOK("Content-Length: 5", "hello\r\n"), Why: "the next answer begins with it", Status: 200, Body: "hello"},
		{Name: "a 408 behind it", Raw: answerOK("Content-Length: 5", "hello") + "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", End: true,
			Why: "some servers say so when they close what is idle", Status: 200, Body: "hello"},
	}
}

func fieldAnswers() []AnswerVector {
	field := func(f string) string { return answerOK(f+"\r\nContent-Length: 5", "hello") }
	either := func(name, f, why string, absent ...string) AnswerVector {
		return AnswerVector{Name: name, Raw: field(f), Why: why, Status: 200, Body: "hello", Absent: absent, Or: true}
	}
	return []AnswerVector{
		{Name: "field", Raw: field("X-A: 1"), Why: "the plain case", Status: 200, Body: "hello", Fields: map[string]string{"X-A": "1"}},
		{Name: "field named as hop-by-hop", Raw: field("Connection: X-A\r\nX-A: 1\r\nX-B: 2"), Why: "it ends here", Status: 200, Body: "hello", Absent: []string{"X-A"}, Fields: map[string]string{"X-B": "2"}},
		either("field with a space before the colon", "X-A : 1", "to be mended by RFC 9112, 5.1, or refused"),
		either("field folded", "X-A: 1\r\n 2", "to be mended by RFC 9112, 5.2, or refused"),
		either("field with a bare CR", "X-A: 1\rX-B: 2", "a line end to some", "X-B"),
		either("field with a NUL", "X-A: 1\x002", "RFC 9110, 5.5"),
		either("field without a colon", "X-A", "not a field"),
		either("field without a name", ": 1", "not a field"),
		either("field ended by a bare LF", "X-A: 1\nX-B: 2", "a line end to most, not to all"),
		{Name: "TE folded", Raw: answerOK("Transfer-Encoding:\r\n chunked", "5\r\nhello\r\n0\r\n\r\n"), Why: "how long is the body?", Status: 200, Body: "hello", Or: true},
		{Name: "TE with a space before the colon", Raw: answerOK("Transfer-Encoding : chunked", "5\r\nhello\r\n0\r\n\r\n"), Why: "how long is the body?", Status: 200, Body: "hello", Or: true},
	}
}
