package switchertest

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sync"
)

// siteWork is the client's end of one piece of work.
type siteWork struct {
	s      *Site
	kind   Kind
	id     string
	slot   string
	cancel context.CancelFunc

	done     sync.WaitGroup // of the goroutine that waits for the answer
	answered chan struct{}  // closed when resp and err are set
	resp     *http.Response
	err      error

	body  *io.PipeWriter // of an upload
	sent  int64
	sum   hash.Hash
	lines *bufio.Reader // of a download
	part  int
	conn  io.ReadWriteCloser // of an upgraded connection
}

// begin sends the request and waits until a slot has begun it.
func (x *siteWork) begin(ctx context.Context) (slot string, err error) {
	var body io.Reader
	if x.kind == KindUpload {
		var r *io.PipeReader
		r, x.body = io.Pipe()
		body = r
	}
	req, err := x.s.request(ctx, workPath+"?"+url.Values{"kind": {x.kind.String()}, "id": {x.id}}.Encode(), body)
	if err != nil {
		return "", err
	}
	if x.kind == KindUpgraded {
		req.Method = http.MethodGet
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Sec-WebSocket-Version", "13")
		req.Header.Set("Sec-WebSocket-Key", "c3dpdGNoZXJ0ZXN0LWtleQ==")
	}
	transport := x.s.alone()
	if x.kind == KindUpgraded {
		transport = x.s.direct // one that does not say Connection: close; the connection is never shared
	}
	x.done.Go(func() {
		defer close(x.answered)
		x.resp, x.err = transport.RoundTrip(req)
		if x.err != nil && x.body != nil {
			x.body.CloseWithError(x.err)
		}
	})
	if x.body != nil {
		if err := x.write(); err != nil {
			return "", err
		}
	}
	slot, err = x.s.whereBegan(ctx, x.id, x.answered, x.early)
	if err != nil {
		return "", err
	}
	switch x.kind {
	case KindUpgraded, KindDownload:
		select {
		case <-x.answered:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if err := x.early(); err != nil {
			return "", err
		}
		if x.kind == KindUpgraded {
			var ok bool
			if x.conn, ok = x.resp.Body.(io.ReadWriteCloser); !ok {
				return "", fmt.Errorf("the upgraded connection cannot be written to")
			}
			return slot, x.echo("first")
		}
		x.lines = bufio.NewReader(x.resp.Body)
		return slot, x.readPart()
	}
	return slot, nil
}

// early looks at an answer that has come: only some kinds are answered before they end.
func (x *siteWork) early() error {
	if x.err != nil {
		return x.err
	}
	want := http.StatusOK
	if x.kind == KindUpgraded {
		want = http.StatusSwitchingProtocols
	}
	if x.resp.StatusCode != want {
		b, _ := io.ReadAll(io.LimitReader(x.resp.Body, 200))
		return fmt.Errorf("status %s: %s", x.resp.Status, b)
	}
	return nil
}

// write sends the next part of an upload.
func (x *siteWork) write() error {
	part := fmt.Appendf(nil, "%1024d", x.sent)
	x.sum.Write(part)
	x.sent += int64(len(part))
	_, err := x.body.Write(part)
	return err
}

// echo sends a text through an upgraded connection and reads it back.
func (x *siteWork) echo(text string) error {
	if err := writeFrame(x.conn, opText, []byte(text), true); err != nil {
		return err
	}
	op, got, err := readFrame(x.conn)
	if err != nil {
		return fmt.Errorf("read echo: %w", err)
	}
	if op != opText || string(got) != text {
		return fmt.Errorf("echo of %q was %q (opcode %d)", text, got, op)
	}
	return nil
}

// readPart reads the next part of a download.
func (x *siteWork) readPart() error {
	line, err := x.lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("part %d: %w", x.part, err)
	}
	if want := fmt.Sprintf("part %d\n", x.part); line != want {
		return fmt.Errorf("read %q, not %q", line, want)
	}
	x.part++
	return nil
}

func (x *siteWork) control(ctx context.Context, what string, n int64) error {
	_, err := x.s.control(ctx, x.slot, what, fmt.Sprintf("id=%s&n=%d", x.id, n))
	return err
}

// step is Work.Step. Whatever blocks is ended with ctx by ending the work.
func (x *siteWork) step(ctx context.Context) error {
	defer context.AfterFunc(ctx, x.cut)()
	switch x.kind {
	case KindUpload:
		if err := x.write(); err != nil {
			return err
		}
		return x.control(ctx, "read", x.sent)
	case KindDownload:
		if err := x.control(ctx, "step", 0); err != nil {
			return err
		}
		return x.readPart()
	case KindUpgraded:
		x.part++
		return x.echo(fmt.Sprintf("text %d", x.part))
	}
	return nil
}

// end is Work.End.
func (x *siteWork) end(ctx context.Context) error {
	defer x.abort()
	defer context.AfterFunc(ctx, x.cut)()
	switch x.kind {
	case KindUpload:
		if err := x.body.Close(); err != nil {
			return err
		}
		return x.answer(ctx, hex.EncodeToString(x.sum.Sum(nil))+"\n")
	case KindDownload:
		if err := x.control(ctx, "end", 0); err != nil {
			return err
		}
		rest, err := io.ReadAll(x.lines)
		if err != nil {
			return fmt.Errorf("the download was cut: %w", err)
		}
		if string(rest) != "end\n" {
			return fmt.Errorf("the download ended with %q", rest)
		}
		return nil
	case KindUpgraded:
		if err := writeFrame(x.conn, opClose, []byte{0x03, 0xe8}, true); err != nil {
			return err
		}
		op, _, err := readFrame(x.conn)
		if err != nil {
			return fmt.Errorf("the connection ended without a close frame: %w", err)
		}
		if op != opClose {
			return fmt.Errorf("the close frame was answered by one with opcode %d", op)
		}
		return nil
	}
	if err := x.control(ctx, "end", 0); err != nil {
		return err
	}
	return x.answer(ctx, x.id+"\n")
}

// answer waits for the answer and compares it.
func (x *siteWork) answer(ctx context.Context, want string) error {
	select {
	case <-x.answered:
	case <-ctx.Done():
		return ctx.Err()
	}
	if x.err != nil {
		return x.err
	}
	slot, text, err := whole(x.resp)
	if err != nil {
		return err
	}
	if slot != x.slot || text != want {
		return fmt.Errorf("%q answered %q, not %q answering %q", slot, text, x.slot, want)
	}
	return nil
}

// cut ends the work from the client's side, without waiting.
func (x *siteWork) cut() {
	x.cancel()
	if x.body != nil {
		x.body.CloseWithError(context.Canceled)
	}
	if x.conn != nil {
		x.conn.Close()
	}
}

// abort is Work.Abort.
func (x *siteWork) abort() {
	x.cut()
	x.done.Wait()
	if x.resp != nil {
		x.resp.Body.Close()
	}
}
