package switchertest

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
)

// Opcodes of websocket frames (RFC 6455, section 5.2).
const (
	opText  = 1
	opClose = 8
)

// acceptKey answers the key of a websocket handshake.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// writeFrame writes a whole frame of at most 125 bytes; clients mask.
func writeFrame(w io.Writer, op byte, payload []byte, mask bool) error {
	if len(payload) > 125 {
		return fmt.Errorf("a frame of %d bytes: at most 125 are sent", len(payload))
	}
	frame := []byte{0x80 | op, byte(len(payload))}
	if mask {
		key := make([]byte, 4)
		_, _ = rand.Read(key) // it never fails
		frame[1] |= 0x80
		frame = append(frame, key...)
		for i, c := range payload {
			frame = append(frame, c^key[i%4])
		}
	} else {
		frame = append(frame, payload...)
	}
	_, err := w.Write(frame)
	return err
}

// readFrame reads a whole frame of at most 125 bytes.
func readFrame(r io.Reader) (op byte, payload []byte, err error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if n > 125 {
		return 0, nil, fmt.Errorf("a frame of more than 125 bytes came")
	}
	key := make([]byte, 4)
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, key); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return head[0] & 0x0f, payload, nil
}
