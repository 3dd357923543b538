package framing

import (
	"slices"
	"strconv"
)

// lengthVectors are about Content-Length, alone and beside Transfer-Encoding.
func lengthVectors() []Vector {
	bad := []int{400}
	whole := "Content-Length: " + strconv.Itoa(len(smuggled))
	return slices.Concat(
		refused(bad,
			[3]string{"CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"), "one reader goes by the length, the other by the chunks"},
			[3]string{"TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"), "the same, in the other order"},
			[3]string{"CL zero and TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "a length of zero is a length"},
			[3]string{"CL twice, differing", post("Content-Length: 5\r\nContent-Length: 50", "hello"), "one takes the first, one the last"},
			[3]string{"CL twice, differing in case", post("Content-Length: 5\r\ncontent-length: 50", "hello"), "names know no case"},
			[3]string{"CL twice, the same", post("Content-Length: 5\r\nContent-Length: 5", "hello"), "refused for simplicity, as RFC 9112, 6.3 allows"},
			[3]string{"CL as a list", post("Content-Length: 5, 5", "hello"), "what a careless proxy makes of two"},
			[3]string{"CL as a list of two lengths", post("Content-Length: 5, 50", "hello"), "one takes the first, one the last"},
			[3]string{"CL with a plus", post("Content-Length: +5", "hello"), "strtol takes it, a digit scanner reads 0"},
			[3]string{"CL with a minus", post("Content-Length: -5", "hello"), "a signed reader goes backwards"},
			[3]string{"CL minus zero", post("Content-Length: -0", ""), "not digits"},
			[3]string{"CL in hexadecimal", post("Content-Length: 0x5", "hello"), "0 to one, 5 to the other"},
			[3]string{"CL with letters behind", post("Content-Length: 5a", "hello"), "5 to one, 0x5a to the other"},
			[3]string{"CL with a fraction", post("Content-Length: 5.0", "hello"), "not digits"},
			[3]string{"CL with an exponent", post("Content-Length: 5e0", "hello"), "not digits"},
			[3]string{"CL with a space inside", post("Content-Length: 5 0", "hello"), "5 to one, 50 to the other"},
			[3]string{"CL with an underscore", post("Content-Length: 5_0", "hello"), "some languages read 50"},
			[3]string{"CL empty", post("Content-Length:", "hello"), "nothing is no length"},
			[3]string{"CL of blanks", post("Content-Length:   ", "hello"), "nothing is no length"},
			[3]string{"CL in quotes", post("Content-Length: \"5\"", "hello"), "not digits"},
			[3]string{"CL above 64 bits", post("Content-Length: 18446744073709551621", "hello"), "2^64+5 is 5 to who does not look for overflow"},
			[3]string{"CL above 63 bits", post("Content-Length: 9223372036854775813", "hello"), "negative to a signed reader"},
			[3]string{"CL above 32 bits twice over", post("Content-Length: 340282366920938463463374607431768211461", "hello"), "2^128+5"},
			[3]string{"CL with a vertical tab", post("Content-Length: \v5", "hello"), "blank to isspace, not to HTTP"},
			[3]string{"CL with a no-break space", post("Content-Length: 5\xa0", "hello"), "blank to some"},
			[3]string{"CL with a NUL behind", post("Content-Length: 5\x000", "hello"), "5 to a C string, an error to others"},
			[3]string{"CL in full-width digits", post("Content-Length: \xef\xbc\x95", "hello"), "a digit to who asks Unicode"},
		),
		refused([]int{400, 501},
			[3]string{"CL and an unknown TE", post("Content-Length: 5\r\nTransfer-Encoding: cow", "hello"), "who ignores the coding goes by the length"},
			[3]string{"CL and an empty TE", post("Content-Length: 5\r\nTransfer-Encoding:", "hello"), "an empty coding is present all the same"},
		),
		forwarded(posted("hello"),
			[3]string{"CL with blanks around", post("Content-Length: \t 5 \t ", "hello"), "blanks around a value are not part of it"},
			[3]string{"CL without a blank", post("Content-Length:5", "hello"), "the blank is optional"},
			[3]string{"CL in capitals", post("CONTENT-LENGTH: 5", "hello"), "names know no case"},
			[3]string{"CL beside an underscore namesake", post("Content_Length: 50\r\nContent-Length: 5", "hello"), "another field altogether"},
			[3]string{"CL beside an underscore TE", post("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello"), "another field altogether"},
			[3]string{"CL named as hop-by-hop", post("Connection: Content-Length\r\nContent-Length: 5", "hello"), "who drops the fields named drops the framing"},
			[3]string{"CL beside a longer namesake", post("Content-Length-X: 50\r\nX-Content-Length: 3\r\nContent-Length: 5", "hello"), "a prefix is no name"},
		),
		[]Vector{
			{Name: "CL with leading zeros", Raw: post("Content-Length: 0000000005", "hello"), Why: "decimal by the grammar, octal to some",
				Requests: posted("hello"), Or: bad},
			{Name: "CL of a GET", Raw: request("GET /page HTTP/1.1", "Host: site.test\r\n"+whole, smuggled),
				Why:      "who knows that a GET has no body reads another request",
				Requests: []Request{{Method: "GET", Target: "/page", Host: site, Body: smuggled}}, Or: bad},
			{Name: "CL zero of a POST", Raw: post("Content-Length: 0", ""), Why: "an empty body, and the next request behind it", Requests: posted("")},
			{Name: "POST without a length", Raw: post("X: y", ""), Why: "no body, not one until the end of the connection", Requests: posted("")},
			{Name: "body of another request", Raw: post(whole, smuggled), Why: "a body is opaque", Requests: posted(smuggled)},
			{Name: "CL with less behind it", Raw: post("Content-Length: 50", "hello"), End: true, Why: "half a body is not the body",
				Want: BrokenOff, Status: bad},
		})
}
