package main

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAcceptKey(t *testing.T) {
	assert.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", acceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "the sample of RFC 6455, section 1.3")
}

// The samples of RFC 6455, section 5.7.
func TestFramesOfTheRFC(t *testing.T) {
	for name, c := range map[string]struct {
		bytes   string
		client  bool // who reads
		op      byte
		payload string
	}{
		"unmasked text":   {"\x81\x05Hello", true, opText, "Hello"},
		"masked text":     {"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false, opText, "Hello"},
		"fragments":       {"\x01\x03Hel\x80\x02lo", true, opText, "Hello"},
		"ping in between": {"\x01\x03Hel\x89\x05Hello\x80\x02lo", true, opText, "Hello"},
		"masked pong":     {"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false, opPong, "Hello"},
		"256 bytes":       {"\x82\x7e\x01\x00" + strings.Repeat("x", 256), true, opBinary, strings.Repeat("x", 256)},
		"64 KiB":          {"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("y", 1<<16), true, opBinary, strings.Repeat("y", 1<<16)},
	} {
		t.Run(name, func(t *testing.T) {
			var sent bytes.Buffer
			ws := &websocket{r: bufio.NewReader(strings.NewReader(c.bytes)), w: &sent, client: c.client}
			op, payload, err := ws.receive()
			require.NoError(t, err)
			assert.Equal(t, c.op, op)
			assert.Equal(t, c.payload, string(payload))
			if name == "ping in between" {
				back := &websocket{r: bufio.NewReader(&sent)}
				op, payload, err := back.receive()
				require.NoError(t, err)
				assert.Equal(t, opPong, op)
				assert.Equal(t, "Hello", string(payload), "a pong carries the ping's payload")
			}
		})
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  string
		client bool
	}{
		"client did not mask":     {"\x81\x05Hello", false},
		"server masked":           {"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", true},
		"reserved bit":            {"\xc1\x05Hello", true},
		"unknown opcode":          {"\x83\x00", true},
		"fragmented ping":         {"\x09\x00", true},
		"long close":              {"\x88\x7e\x00\x80" + strings.Repeat("x", 128), true},
		"continuation of nothing": {"\x80\x02lo", true},
		"message in a message":    {"\x01\x03Hel\x81\x02lo", true},
		"too big":                 {"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", true},
	} {
		t.Run(name, func(t *testing.T) {
			ws := &websocket{r: bufio.NewReader(strings.NewReader(c.bytes)), w: &bytes.Buffer{}, client: c.client}
			_, _, err := ws.receive()
			assert.ErrorIs(t, err, errProtocol)
		})
	}
}

func TestSendMasksAndMeasures(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16} {
		for _, client := range []bool{true, false} {
			var wire bytes.Buffer
			payload := bytes.Repeat([]byte("ab"), size)[:size]
			require.NoError(t, (&websocket{w: &wire, client: client}).send(opBinary, payload))
			if client && size > 64 {
				assert.NotContains(t, wire.String(), "abababababab", "masked")
			}
			op, got, err := (&websocket{r: bufio.NewReader(&wire), client: !client}).receive()
			require.NoError(t, err)
			assert.Equal(t, opBinary, op)
			assert.Equal(t, payload, append([]byte{}, got...))
		}
	}
}

func TestHandshake(t *testing.T) {
	refused := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, conn, err := acceptWebsocket(w, r, "hello")
		if err != nil {
			refused <- err
			return
		}
		defer conn.Close()
		echo(ws)
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()

	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	ws, resp, err := openWebsocket(conn, addr, "/echo")
	require.NoError(t, err)
	assert.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	_, first, err := ws.receive()
	require.NoError(t, err)
	assert.Equal(t, "hello", string(first))

	require.NoError(t, ws.send(opText, []byte("one")))
	_, got, err := ws.receive()
	require.NoError(t, err)
	assert.Equal(t, "one", string(got))

	require.NoError(t, ws.sendClose(closeNormal, "bye"))
	op, got, err := ws.receive()
	require.NoError(t, err)
	assert.Equal(t, opClose, op)
	assert.Equal(t, "\x03\xe8bye", string(got), "a close frame is answered with its own code")
	_, _, err = ws.receive()
	assert.Error(t, err, "after it the server hangs up")

	plain, err := http.Get(srv.URL)
	require.NoError(t, err)
	plain.Body.Close()
	assert.Equal(t, http.StatusBadRequest, plain.StatusCode)
	assert.ErrorIs(t, <-refused, errProtocol)
}
