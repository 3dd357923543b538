package session

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
)

const (
	secretSize = 32
	maxKeys    = 16
	maxName    = 200 // bytes of a slot's name, and of a release
	macSize    = sha256.Size
	tokenHead  = 1 + keyIDSize + 8 + idSize + 1
	keyIDSize  = 4
	idSize     = 16
	version    = 1
)

// maxToken is how long a cookie's value can be.
var maxToken = base64.RawURLEncoding.EncodedLen(tokenHead + 2*maxName + macSize)

var encoding = base64.RawURLEncoding.Strict()

// Keys are the secrets that sign cookies: the first one signs, all of them verify. A key is retired by putting a new one before it, and dropping
// it when no session can be as old. A value is never changed.
type Keys struct{ all []secret }

type secret struct {
	id  [keyIDSize]byte // tells which key it is; not a secret
	key []byte
}

// NewKeys returns keys of these secrets, of 32 bytes each, at least one and at most 16.
func NewKeys(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 || len(secrets) > maxKeys {
		return nil, fmt.Errorf("there are %d keys: 1 to %d are needed", len(secrets), maxKeys)
	}
	k := &Keys{}
	for i, s := range secrets {
		if len(s) != secretSize {
			return nil, fmt.Errorf("key number %d has %d bytes: %d are needed, by chance", i+1, len(s), secretSize)
		}
		sum := sha256.Sum256(append([]byte("abswap session key\n"), s...))
		x := secret{key: bytes.Clone(s)}
		copy(x.id[:], sum[:])
		for _, other := range k.all {
			if other.id == x.id {
				return nil, fmt.Errorf("key number %d is there twice", i+1)
			}
		}
		k.all = append(k.all, x)
	}
	return k, nil
}

// ParseKeys reads what a key file holds: a line for each key, in hexadecimal digits, the one that signs first. Empty lines and lines that begin
// with # are skipped. Errors do not repeat what is in it.
func ParseKeys(text []byte) (*Keys, error) {
	var all [][]byte
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key := make([]byte, hex.DecodedLen(len(line)))
		if _, err := hex.Decode(key, line); err != nil {
			return nil, fmt.Errorf("key number %d is not in hexadecimal digits", len(all)+1)
		}
		if all = append(all, key); len(all) > maxKeys {
			break
		}
	}
	return NewKeys(all...)
}

// LoadKeys reads the key file at path. Where there is none it makes one with a new key, that only its owner may read.
func LoadKeys(path string) (*Keys, error) {
	text, err := atomicfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, secretSize)
		rand.Read(key)
		text = fmt.Appendf(nil, "%x\n", key)
		err = atomicfile.Write(path, text, 0o600)
	}
	return keysOf(path, text, err)
}

// ReadKeys reads the key file at path, which must exist.
func ReadKeys(path string) (*Keys, error) {
	text, err := atomicfile.Read(path)
	return keysOf(path, text, err)
}

func keysOf(path string, text []byte, err error) (*Keys, error) {
	if err != nil {
		return nil, fmt.Errorf("session keys: %w", err)
	}
	k, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("session keys in %q: %w", path, err)
	}
	return k, nil
}

// token is what a signed cookie says.
type token struct {
	id     ID
	issued time.Time // to the second
	gen    Generation
}

// sign returns the value of a cookie of that name. The generation's names are short enough.
func (k *Keys) sign(name string, t token) string {
	s := k.all[0]
	b := make([]byte, 0, tokenHead+2*maxName+macSize)
	b = append(b, version)
	b = append(b, s.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.issued.Unix()))
	b = append(b, t.id[:]...)
	b = append(b, byte(len(t.gen.Slot)))
	b = append(b, t.gen.Slot...)
	b = append(b, t.gen.Release...)
	return encoding.EncodeToString(s.mac(b, name, b))
}

// mac appends the code of data, as a cookie of that name, to b.
func (s secret) mac(b []byte, name string, data []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte{byte(len(name) >> 8), byte(len(name))})
	m.Write([]byte(name))
	m.Write(data)
	return m.Sum(b)
}

// verify reads the value of a cookie of that name. Whatever is not word for word what one of the keys has signed is refused, without telling
// why.
func (k *Keys) verify(name, value string) (t token, ok bool) {
	if k == nil || len(value) > maxToken {
		return t, false
	}
	b, err := encoding.DecodeString(value)
	if err != nil || len(b) < tokenHead+macSize || b[0] != version {
		return t, false
	}
	data, sum := b[:len(b)-macSize], b[len(b)-macSize:]
	for _, s := range k.all {
		if !bytes.Equal(s.id[:], data[1:1+keyIDSize]) {
			continue
		}
		if !hmac.Equal(sum, s.mac(nil, name, data)) {
			return t, false
		}
		at := 1 + keyIDSize
		t.issued = time.Unix(int64(binary.BigEndian.Uint64(data[at:])), 0)
		copy(t.id[:], data[at+8:])
		names := data[tokenHead:]
		n := int(data[tokenHead-1])
		if n > len(names) {
			return token{}, false
		}
		t.gen = Generation{Slot: string(names[:n]), Release: string(names[n:])}
		return t, true
	}
	return t, false
}
