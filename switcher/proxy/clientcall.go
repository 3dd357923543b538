package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
)

const maxAnswerText = 64 << 20

// errUnsent says that the proxy could not be connected to.
var errUnsent = errors.New("nothing was sent")

// ask asks a question, which changes nothing.
func (c *Client) ask(ctx context.Context, path string, q url.Values, limit time.Duration, out any) error {
	r, err := http.NewRequest(http.MethodGet, c.url+path, nil)
	if err != nil {
		return fmt.Errorf("proxy: client: %w", err)
	}
	r.URL.RawQuery = q.Encode()
	return c.do(ctx, r, limit, false, out)
}

// tell sends an order. The transport may send it again by itself if a kept connection breaks: the key lets the proxy know it again.
func (c *Client) tell(ctx context.Context, path, key string, order, out any) error {
	text, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("proxy: client: %w", err)
	}
	r, err := http.NewRequest(http.MethodPost, c.url+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("proxy: client: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set(keyHeader, key)
	}
	return c.do(ctx, r, c.cfg.Timeout, key != "", out)
}

// do makes one call. changes says that it may have an effect even if no answer comes.
func (c *Client) do(ctx context.Context, r *http.Request, limit time.Duration, changes bool, out any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var sent atomic.Bool
	bounded := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	bounded = httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	r = r.WithContext(bounded)
	if c.cfg.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		switch {
		case changes && sent.Load():
			err = fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
		case !sent.Load():
			err = fmt.Errorf("%w: %w", errUnsent, err)
		}
		return fmt.Errorf("proxy: client: %s: %s %s: %w", c.cfg.Address, r.Method, r.URL.Path, err)
	}
	resp, err := c.http.RoundTrip(r)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerText))
	if err != nil {
		return fail(err)
	}
	var head errorAnswer
	if err := json.Unmarshal(text, &head); err != nil {
		return fail(fmt.Errorf("answer %s is not of a proxy's control plane: %.200q", resp.Status, text))
	}
	if resp.StatusCode != http.StatusOK {
		if head.Error.Text == "" {
			return fail(fmt.Errorf("answer %s is not of a proxy's control plane: %.200q", resp.Status, text))
		}
		c.seen.Store(head.Revision)
		return head.Error.err(resp.StatusCode)
	}
	if head.Revision != 0 {
		c.seen.Store(head.Revision)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fail(fmt.Errorf("answer cannot be read: %w", err))
	}
	return nil
}
