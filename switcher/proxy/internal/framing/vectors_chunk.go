package framing

import (
	"fmt"
	"slices"
	"strings"
)

// chunkVectors are about what follows a head with Transfer-Encoding: chunked.
func chunkVectors() []Vector {
	te := func(body string) string { return post("Transfer-Encoding: chunked", body) }
	const end = "0\r\n\r\n"
	bad := []int{400}
	return slices.Concat(
		brokenOff(
			[3]string{"chunk size with a plus", te("+5\r\nhello\r\n" + end), "strtol takes it"},
			[3]string{"chunk size with a minus", te("-5\r\nhello\r\n" + end), "a signed reader goes backwards"},
			[3]string{"chunk size with 0x", te("0x5\r\nhello\r\n" + end), "the last chunk to one, 5 to the other"},
			[3]string{"chunk size behind a space", te(" 5\r\nhello\r\n" + end), "blank to strtol"},
			[3]string{"chunk size with letters behind", te("5g\r\nhello\r\n" + end), "5 to who stops at the first stranger"},
			[3]string{"chunk size with a space inside", te("5 0\r\nhello\r\n" + end), "5 to one, 0x50 to the other"},
			[3]string{"chunk size empty", te("\r\nhello\r\n" + end), "the last chunk to who reads nothing as 0"},
			[3]string{"chunk size of an extension only", te(";a=b\r\nhello\r\n" + end), "the last chunk to who reads nothing as 0"},
			[3]string{"chunk size above 64 bits", te("10000000000000005\r\nhello\r\n" + end), "5 to who does not look for overflow"},
			[3]string{"chunk size above 63 bits", te("8000000000000005\r\nhello\r\n" + end), "negative to a signed reader"},
			[3]string{"chunk size with an underscore", te("0_5\r\nhello\r\n" + end), "some languages read 5"},
			[3]string{"chunk size with a NUL", te("5\x00\r\nhello\r\n" + end), "5 to a C string"},
			[3]string{"chunk size ended by a bare LF", te("5\nhello\r\n" + end), "a line end to most, not to all"},
			[3]string{"chunk size ended by a bare CR", te("5\rhello\r\n" + end), "a line end to some"},
			[3]string{"chunk extension with a bare LF", te("5;a\nhello\r\n" + end), "the end of the line to some"},
			[3]string{"chunk extension with a bare CR", te("5;a\rb\r\nhello\r\n" + end), "the end of the line to some"},
			[3]string{"chunk extension with a NUL", te("5;a\x00b\r\nhello\r\n" + end), "the end of the line to a C string"},
			[3]string{"chunk data too long", te("5\r\nhello!\r\n" + end), "what is the sixth byte?"},
			[3]string{"chunk data too short", te("5\r\nhell\r\n" + end), "its end is taken for data"},
			[3]string{"chunk data without an end", te("5\r\nhello0\r\n\r\n"), "who skips two bytes eats the next size"},
			[3]string{"chunk data ended by a bare LF", te("5\r\nhello\n" + end), "who skips two bytes eats the next size"},
			[3]string{"chunk data ended by a bare CR", te("5\r\nhello\r" + end), "who skips two bytes eats the next size"},
			[3]string{"chunk data ended by LF CR", te("5\r\nhello\n\r" + end), "two bytes, but not those"},
			[3]string{"last chunk ended by a bare LF", te("5\r\nhello\r\n0\n\r\n"), "a line end to most, not to all"},
			[3]string{"end ended by a bare LF", te("5\r\nhello\r\n0\r\n\n"), "a line end to most, not to all"},
			[3]string{"last chunk with a minus", te("5\r\nhello\r\n-0\r\n\r\n"), "zero to some"},
			[3]string{"last chunk with 0x", te("5\r\nhello\r\n0x0\r\n\r\n"), "zero to some"},
		),
		forwarded(posted("hello"),
			[3]string{"chunk extension", te("5;a=b;c\r\nhello\r\n0;d\r\n\r\n"), "to be ignored"},
			[3]string{"chunk extension that looks like a size", te("5;50\r\nhello\r\n" + end), "to be ignored"},
			[3]string{"chunk extension in quotes", te("5;a=\"b;c\"\r\nhello\r\n" + end), "to be ignored"},
			[3]string{"chunks of one byte", te("1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n" + end), "boundaries mean nothing"},
			[3]string{"chunk size with leading zeros", te("00005\r\nhello\r\n" + end), "hexadecimal by the grammar"},
			[3]string{"last chunk of many zeros", te("5\r\nhello\r\n0000\r\n\r\n"), "zero is zero"},
		),
		forwarded(posted("0\r\n\r\n"+smuggled),
			[3]string{"chunk that looks like the end", te(fmt.Sprintf("%x\r\n0\r\n\r\n%s\r\n", 5+len(smuggled), smuggled) + end), "data is opaque"}),
		forwarded(posted("hello, world"),
			[3]string{"chunk size in both cases", te("a\r\nhello, wor\r\n2\r\nld\r\n" + end), "digits know no case"},
			[3]string{"chunk size in capitals", te("C\r\nhello, world\r\n" + end), "digits know no case"}),
		[]Vector{
			{Name: "chunk extension without end", Raw: te("5;" + strings.Repeat("a", 1<<17) + "\r\nhello\r\n" + end), Why: "work for nothing, without limit",
				Want: BrokenOff, Status: []int{400, 413, 431}},
			{Name: "chunks that stop in the data", Raw: te("5\r\nhel"), End: true, Why: "half a body is not the body", Want: BrokenOff, Status: bad},
			{Name: "chunks that stop in a size", Raw: te("5\r\nhello\r\n1"), End: true, Why: "half a body is not the body", Want: BrokenOff, Status: bad},
			{Name: "chunks without the last one", Raw: te("5\r\nhello\r\n"), End: true, Why: "half a body is not the body", Want: BrokenOff, Status: bad},
			{Name: "last chunk without its end", Raw: te("5\r\nhello\r\n0\r\n"), End: true, Why: "trailers could have come", Want: BrokenOff, Status: bad},
			{Name: "chunk size with a space behind", Raw: te("5 \r\nhello\r\n" + end), Why: "blanks may stand before an extension only; many take them",
				Requests: posted("hello"), Or: bad},
			{Name: "chunk extension behind a blank", Raw: te("5 ; a=b\r\nhello\r\n" + end), Why: "bad blanks, to be taken by RFC 9112, 7.1.1",
				Requests: posted("hello"), Or: bad},
			{Name: "chunk size with many leading zeros", Raw: te(strings.Repeat("0", 40) + "5\r\nhello\r\n" + end), Why: "right by the grammar; who counts digits refuses",
				Requests: posted("hello"), Or: bad},
		})
}

// trailerVectors are about what follows the last chunk.
func trailerVectors() []Vector {
	te := func(trailers string) string {
		return post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"+trailers)
	}
	plain := posted("hello")
	plain[0].Absent = []string{"Content-Length", "X-Sum"}
	return slices.Concat(
		brokenOff(
			[3]string{"trailer without a colon", te("X-Sum\r\n\r\n"), "not a field"},
			[3]string{"trailer with a space before the colon", te("X-Sum : 1\r\n\r\n"), "another name to one, the same to the other"},
			[3]string{"trailer folded", te("X-Sum: 1\r\n 2\r\n\r\n"), "obsolete line folding"},
			[3]string{"trailer ended by a bare LF", te("X-Sum: 1\n\r\n"), "a line end to most, not to all"},
			[3]string{"trailer with a bare CR", te("X-Sum: 1\r2\r\n\r\n"), "a line end to some"},
			[3]string{"trailer with a NUL", te("X-Sum: \x00\r\n\r\n"), "the end to a C string"},
			[3]string{"trailer without a name", te(": 1\r\n\r\n"), "not a field"},
			[3]string{"trailer that is a request line", te(smuggled), "a request to who stops at the last chunk"},
		),
		forwarded(plain,
			[3]string{"trailer", te("X-Sum: 1\r\n\r\n"), "must not become a field of the head"}),
		[]Vector{
			{Name: "trailer with a length", Raw: te("Content-Length: 50\r\n\r\n"), Why: "must not become a field of the head, nor arrive at all", Requests: plain, Or: []int{400}},
			{Name: "trailer with a coding", Raw: te("Transfer-Encoding: cow\r\n\r\n"), Why: "must not become a field of the head, nor arrive at all", Requests: posted("hello"), Or: []int{400}},
			{Name: "trailer with a host", Raw: te("Host: evil.test\r\n\r\n"), Why: "must not become a field of the head, nor arrive at all", Requests: posted("hello"), Or: []int{400}},
			{Name: "trailers without end", Raw: te("X-Sum: " + strings.Repeat("1", 3<<20) + "\r\n\r\n"), Why: "memory without limit",
				Want: BrokenOff, Status: []int{400, 413, 431}},
			{Name: "trailers that stop", Raw: te("X-Sum: 1\r\n"), End: true, Why: "more could have come", Want: BrokenOff, Status: []int{400}},
		})
}
