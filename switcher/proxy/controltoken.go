package proxy

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/abswap/abswap/internal/atomicfile"
)

// minToken is the length of a token from which on it can have 128 bits, at six bits a character.
const minToken = 22

// checkToken refuses what is no token: too short to have 128 bits, or not fit for a header field.
func checkToken(token string) error {
	if len(token) < minToken || len(token) > 512 {
		return fmt.Errorf("the token has %d characters: %d to 512 are needed, by chance, as CreateToken makes them", len(token), minToken)
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c >= 0x7f {
			return errors.New("the token has characters that cannot stand in a header field")
		}
	}
	return nil
}

// CreateToken returns the token in the file at path, for ControlOptions.Token. Where there is no such file it makes one with a new token of
// 256 random bits, which only the user who runs the program can read (on Windows: whoever may read the folder). The folder must exist.
func CreateToken(path string) (string, error) {
	token, err := ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	var random [32]byte
	rand.Read(random[:])
	token = base64.RawURLEncoding.EncodeToString(random[:])
	if err := atomicfile.Write(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("proxy: token: %w", err)
	}
	return ReadToken(path) // another program may have made one at the same time
}

// ReadToken returns the token in the file at path, for ClientConfig.Token. It refuses a file that other users may read (not on Windows), and
// one with something else in it. If there is none the error is fs.ErrNotExist.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("proxy: token: %w", err)
	}
	if info.Size() > 1024 {
		return "", fmt.Errorf("proxy: token: %q has %d bytes: that is no token", path, info.Size())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("proxy: token: other users may read %q (mode %#o): make a new one that they never saw, with mode 0600", path, mode)
	}
	text, err := atomicfile.Read(path)
	if err != nil {
		return "", fmt.Errorf("proxy: token: %w", err)
	}
	token := string(bytes.TrimSpace(text))
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("proxy: token: %q: %w", path, err)
	}
	return token, nil
}
