package haproxydemo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Post is one POST, which a client does not try again by itself. What is not 200 is an error.
func Post(ctx context.Context, tr *http.Transport, to string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, text)
	}
	return string(text), err
}

// Upload is a POST whose body comes in parts.
type Upload struct {
	body *io.PipeWriter
	sent int
	done chan struct{}
	text string
	err  error
}

const part = 64 << 10

// StartUpload begins one, and returns when an application has begun to take it.
func StartUpload(ctx context.Context, to string) (*Upload, error) {
	r, w := io.Pipe()
	u := &Upload{body: w, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		tr := &http.Transport{DisableKeepAlives: true}
		u.text, u.err = Post(ctx, tr, to, r)
		r.CloseWithError(io.ErrClosedPipe)
	}()
	for range 8 { // more than the buffers on the way hold
		if err := u.Send(); err != nil {
			<-u.done
			return nil, fmt.Errorf("upload: %w", u.err)
		}
	}
	return u, nil
}

// Send sends one more part.
func (u *Upload) Send() error {
	n, err := u.body.Write(make([]byte, part))
	u.sent += n
	return err
}

// Finish ends the body. The last word of the answer must be how many bytes were sent; it returns what stands before it: who has taken them.
func (u *Upload) Finish() (by string, err error) {
	_ = u.body.Close()
	<-u.done
	if u.err != nil {
		return "", fmt.Errorf("upload: %w", u.err)
	}
	by, whole := strings.CutSuffix(u.text, " "+strconv.Itoa(u.sent))
	if !whole {
		return "", fmt.Errorf("upload: %q of %d bytes", u.text, u.sent)
	}
	return by, nil
}
