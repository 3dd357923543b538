package h1

// Fault is why a message is refused: what it has is against RFC 9110 or 9112, or could be read in two ways.
type Fault struct {
	Status int // what a client gets for it
	text   string
}

func (f *Fault) Error() string { return f.text }

// The faults. Behind any of them nothing that follows on the connection can be told apart, so it is closed.
var (
	errLine          = &Fault{400, "the request line is none"}
	errBareLF        = &Fault{400, "a line of the head does not end with CRLF"}
	errTarget        = &Fault{400, "the request target is not valid"}
	errVersion       = &Fault{505, "the version of HTTP is not 1.0 or 1.1"}
	errFold          = &Fault{400, "a line of the head begins with a blank"}
	errName          = &Fault{400, "a line of the head has no valid name of a field before its colon"}
	errValue         = &Fault{400, "a field has a control character"}
	errNoHost        = &Fault{400, "there is no Host"}
	errHosts         = &Fault{400, "there is more than one Host"}
	errHost          = &Fault{400, "Host is not valid"}
	errLength        = &Fault{400, "Content-Length is not a number"}
	errLengths       = &Fault{400, "there is more than one Content-Length"}
	errBoth          = &Fault{400, "there are Content-Length and Transfer-Encoding"}
	errCodings       = &Fault{400, "Transfer-Encoding does not end with a single chunked"}
	errCoding        = &Fault{501, "Transfer-Encoding is another than chunked"}
	errOldCoding     = &Fault{400, "HTTP/1.0 has no Transfer-Encoding"}
	errHeadSize      = &Fault{431, "the head is too long"}
	errHeadFields    = &Fault{431, "the head has too many fields"}
	errExpect        = &Fault{417, "the expectation is unknown"}
	errConnect       = &Fault{405, "CONNECT is not for this server"}
	errStatus        = &Fault{502, "the status line is none"}
	errChunkSize     = &Fault{400, "the size of a chunk is not valid"}
	errChunkExt      = &Fault{400, "the extension of a chunk is not valid"}
	errChunkEnd      = &Fault{400, "a chunk does not end with CRLF"}
	errTrailer       = &Fault{400, "the trailer is not valid"}
	errTrailerTooBig = &Fault{400, "the trailer is too long"}
)
