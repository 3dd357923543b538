package framing

import "slices"

// codingVectors are about Transfer-Encoding.
func codingVectors() []Vector {
	const body = "5\r\nhello\r\n0\r\n\r\n"
	te := func(value string) string { return post("Transfer-Encoding: "+value, body) }
	return slices.Concat(
		refused([]int{400, 501},
			[3]string{"TE unknown", te("cow"), "how long is the body?"},
			[3]string{"TE identity", te("identity"), "gone from HTTP since RFC 7230; none to some, an error to others"},
			[3]string{"TE gzip, chunked", te("gzip, chunked"), "right, but nothing here decodes it"},
			[3]string{"TE with a letter before", te("xchunked"), "chunked to who looks for the word anywhere"},
			[3]string{"TE with a letter behind", te("chunkedx"), "chunked to who compares a prefix"},
			[3]string{"TE in quotes", te(`"chunked"`), "a string is no token"},
			[3]string{"TE with a parameter", te("chunked;q=1"), "chunked has none"},
			[3]string{"TE with a comma before", te(",chunked"), "an empty element"},
			[3]string{"TE with a comma behind", te("chunked,"), "an empty element, last to some"},
			[3]string{"TE twice, one unknown", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", body), "one takes the first, one the last"},
			[3]string{"TE twice, first unknown", post("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", body), "one takes the first, one the last"},
			[3]string{"TE with a semicolon", te("chunked;"), "no such coding"},
			[3]string{"TE chunked twice", te("chunked, chunked"), "chunked in chunks is not allowed"},
			[3]string{"TE chunked in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", body), "chunked in chunks is not allowed"},
			[3]string{"TE chunked not last", te("chunked, gzip"), "the end cannot be found"},
			[3]string{"TE empty", te(""), "no coding is none"},
		),
		refused([]int{400},
			[3]string{"TE behind a vertical tab", te("\vchunked"), "blank to isspace, not to HTTP"},
			[3]string{"TE behind a form feed", te("\fchunked"), "blank to isspace, not to HTTP"},
			[3]string{"TE with a NUL behind", te("chunked\x00"), "chunked to a C string"},
			[3]string{"TE with a backspace", te("chunked\x08"), "a control character"},
			[3]string{"TE with a carriage return", te("chunked\r"), "CR CR LF"},
			[3]string{"TE folded", post("Transfer-Encoding:\r\n chunked", body), "obsolete line folding: empty to one, chunked to the other"},
			[3]string{"TE folded with a tab", post("Transfer-Encoding:\r\n\tchunked", body), "obsolete line folding"},
			[3]string{"TE folded into another field", post("X: y\r\n Transfer-Encoding: chunked", body), "a field to who trims lines"},
			[3]string{"TE behind a space before the colon", post("Transfer-Encoding : chunked", body), "another name to one, the same to the other"},
			[3]string{"TE behind a tab before the colon", post("Transfer-Encoding\t: chunked", body), "another name to one, the same to the other"},
			[3]string{"TE behind a NUL before the colon", post("Transfer-Encoding\x00: chunked", body), "the same name to a C string"},
			[3]string{"TE behind a bare CR", post("X: y\rTransfer-Encoding: chunked", body), "a line end to some"},
			[3]string{"TE behind a bare LF", post("X: y\nTransfer-Encoding: chunked", body), "a line end to most, not to all"},
			[3]string{"TE in HTTP/1.0", request("POST /form HTTP/1.0", "Host: site.test\r\nTransfer-Encoding: chunked", body), "HTTP/1.0 has no chunks: faulty framing by RFC 9112, 6.1"},
			[3]string{"TE and CL in HTTP/1.0", request("POST /form HTTP/1.0", "Host: site.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", body), "who ignores the coding goes by the length"},
		),
		forwarded(posted("hello"),
			[3]string{"TE chunked", te("chunked"), "the plain case"},
			[3]string{"TE in mixed case", te("cHuNkEd"), "codings know no case"},
			[3]string{"TE with blanks around", te(" \tchunked \t"), "blanks around a value are not part of it"},
			[3]string{"TE name in mixed case", post("tRANSFER-eNCODING: chunked", body), "names know no case"},
			[3]string{"TE named as hop-by-hop", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", body), "who drops the fields named drops the framing"},
			[3]string{"TE beside an underscore CL", post("Content_Length: 3\r\nTransfer-Encoding: chunked", body), "another field altogether"},
		),
		[]Vector{
			{Name: "TE of a GET", Raw: request("GET /page HTTP/1.1", "Host: site.test\r\nTransfer-Encoding: chunked", body),
				Why: "who knows that a GET has no body reads another request", Or: []int{400},
				Requests: []Request{{Method: "GET", Target: "/page", Host: site, Body: "hello"}}},
			{Name: "TE and an empty body", Raw: post("Transfer-Encoding: chunked", "0\r\n\r\n"), Why: "the last chunk is the body", Requests: posted("")},
		})
}
