package session

// SessionForTest returns the session in the table.
func (p Pick) SessionForTest() *Session { return p.s }

// DecodeForTest reads a file's text, and returns what is written for it.
func DecodeForTest(text []byte) ([]byte, error) {
	s, err := decode(text)
	if err != nil {
		return nil, err
	}
	return s.encode(), nil
}
