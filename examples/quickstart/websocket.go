package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
)

// The part of RFC 6455 that an echo needs, for both ends: text messages, fragments, ping and pong, and the closing handshake.
const (
	opContinuation byte = 0x0
	opText         byte = 0x1
	opBinary       byte = 0x2
	opClose        byte = 0x8
	opPing         byte = 0x9
	opPong         byte = 0xa
)

const (
	closeNormal   = 1000
	closeProtocol = 1002

	maxMessage = 1 << 20
)

// errProtocol is what a peer gets to feel as a close frame with code 1002.
var errProtocol = errors.New("websocket protocol error")

// websocket is one end of an upgraded connection. One goroutine reads and writes it.
type websocket struct {
	r      *bufio.Reader // has what came together with the handshake
	w      io.Writer
	client bool // this end masks what it sends and refuses masked frames; a server the other way round
}

// acceptKey is the server's answer to the client's Sec-WebSocket-Key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// acceptWebsocket answers a client's handshake. The first message is sent in the same write as the 101, since that is where proxies are
// known to lose one. The caller closes the connection. On an error the request has been answered.
func acceptWebsocket(w http.ResponseWriter, r *http.Request, first string) (*websocket, net.Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-WebSocket-Version") != "13" || key == "" {
		http.Error(w, "this is a websocket: ask for an upgrade, version 13", http.StatusBadRequest)
		return nil, nil, fmt.Errorf("%w: bad handshake", errProtocol)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, nil, err
	}
	h := w.Header().Clone()
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", acceptKey(key))
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n")
	h.Write(rw)
	fmt.Fprint(rw, "\r\n")
	ws := &websocket{r: rw.Reader, w: rw}
	if err := ws.send(opText, []byte(first)); err != nil {
		conn.Close()
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	ws.w = conn
	return ws, conn, nil
}

// openWebsocket does the client's handshake over conn, which the caller closes.
func openWebsocket(conn net.Conn, host, path string) (*websocket, *http.Response, error) {
	nonce := make([]byte, 16)
	binary.BigEndian.PutUint64(nonce, rand.Uint64())
	binary.BigEndian.PutUint64(nonce[8:], rand.Uint64())
	key := base64.StdEncoding.EncodeToString(nonce)
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, host, key)
	if err != nil {
		return nil, nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, resp, fmt.Errorf("handshake: status %d, not 101", resp.StatusCode)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != acceptKey(key) {
		return nil, resp, fmt.Errorf("handshake: Sec-WebSocket-Accept %q does not answer the key", got)
	}
	return &websocket{r: br, w: conn, client: true}, resp, nil
}

// send writes one unfragmented frame with one Write.
func (c *websocket) send(op byte, payload []byte) error {
	frame := make([]byte, 2, 14+len(payload))
	frame[0] = 0x80 | op
	switch n := len(payload); {
	case n < 126:
		frame[1] = byte(n)
	case n < 1<<16:
		frame[1] = 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		frame[1] = 127
		frame = binary.BigEndian.AppendUint64(frame, uint64(n))
	}
	if !c.client {
		frame = append(frame, payload...)
	} else {
		frame[1] |= 0x80
		var key [4]byte
		binary.BigEndian.PutUint32(key[:], rand.Uint32())
		frame = append(frame, key[:]...)
		at := len(frame)
		frame = append(frame, payload...)
		mask(key, frame[at:])
	}
	_, err := c.w.Write(frame)
	return err
}

// sendClose sends a close frame with a code and a reason.
func (c *websocket) sendClose(code uint16, reason string) error {
	return c.send(opClose, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// receive returns the next text or binary message, put together from its fragments, or a control frame other than a ping. Pings are
// answered on the way.
func (c *websocket) receive() (op byte, payload []byte, err error) {
	var kind byte // of the message being put together; 0: none
	for {
		fin, op, part, err := c.frame()
		if err != nil {
			return 0, nil, err
		}
		switch op {
		case opPing:
			if err := c.send(opPong, part); err != nil {
				return 0, nil, err
			}
			continue
		case opPong, opClose:
			return op, part, nil
		case opContinuation:
			if kind == 0 {
				return 0, nil, fmt.Errorf("%w: continuation of nothing", errProtocol)
			}
		default:
			if kind != 0 {
				return 0, nil, fmt.Errorf("%w: new message within another", errProtocol)
			}
			kind = op
		}
		if len(payload)+len(part) > maxMessage {
			return 0, nil, fmt.Errorf("%w: message of more than %d bytes", errProtocol, maxMessage)
		}
		payload = append(payload, part...)
		if fin {
			return kind, payload, nil
		}
	}
}

// frame reads one frame and takes its mask off.
func (c *websocket) frame() (fin bool, op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return false, 0, nil, err
	}
	fin, op = head[0]&0x80 != 0, head[0]&0x0f
	masked, size := head[1]&0x80 != 0, uint64(head[1]&0x7f)
	switch {
	case head[0]&0x70 != 0:
		return false, 0, nil, fmt.Errorf("%w: reserved bits are set", errProtocol)
	case op > opBinary && op < opClose, op > opPong:
		return false, 0, nil, fmt.Errorf("%w: opcode %#x", errProtocol, op)
	case op >= opClose && (!fin || size > 125):
		return false, 0, nil, fmt.Errorf("%w: control frame that is long or in parts", errProtocol)
	case masked == c.client:
		return false, 0, nil, fmt.Errorf("%w: a client masks, a server does not", errProtocol)
	}
	switch size {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return false, 0, nil, unexpected(err)
		}
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return false, 0, nil, unexpected(err)
		}
		size = binary.BigEndian.Uint64(b[:])
	}
	if size > maxMessage {
		return false, 0, nil, fmt.Errorf("%w: frame of %d bytes", errProtocol, size)
	}
	var key [4]byte
	if masked {
		if _, err := io.ReadFull(c.r, key[:]); err != nil {
			return false, 0, nil, unexpected(err)
		}
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return false, 0, nil, unexpected(err)
	}
	if masked {
		mask(key, payload)
	}
	return fin, op, payload, nil
}

// mask puts the mask on, or takes it off.
func mask(key [4]byte, p []byte) {
	for i := range p {
		p[i] ^= key[i&3]
	}
}

// unexpected makes an end within a frame what it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
