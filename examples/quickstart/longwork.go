package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// How many clients of the lasting kinds there are at any time.
const (
	websockets   = 6
	eventStreams = 6
)

// lasting is how long one websocket or event stream lives, at the default length of the run.
func (l *load) lasting(random *rand.Rand) time.Duration {
	return time.Duration((1.5 + 2.5*random.Float64()) * l.pace * float64(time.Second))
}

// transfer begins an upload or a download and comes back at once. At the default length of the run it takes seconds and up to a tenth more.
func (l *load) transfer(k kind, seconds float64) {
	n := l.nextID.Add(1)
	random := rand.New(rand.NewPCG(l.seed, 2000+uint64(n)))
	over := time.Duration(seconds * (1 + 0.1*random.Float64()) * l.pace * float64(time.Second))
	size, seed := 2<<20+random.Int64N(2<<20), random.Uint64()
	l.longs.Go(func() {
		ctx, cancel := context.WithTimeoutCause(l.hard, over+patience, errPatience)
		defer cancel()
		if k == kindUpload {
			l.upload(ctx, "upload-"+strconv.FormatInt(n, 10), size, seed, over, n%2 == 0)
		} else {
			l.download(ctx, "download-"+strconv.FormatInt(n, 10), size, seed, over)
		}
	})
}

// upload asks first whether the body is welcome (Expect: 100-continue), then sends it slowly, sized or chunked.
func (l *load) upload(ctx context.Context, id string, size int64, seed uint64, over time.Duration, chunked bool) {
	hash := sha256.New()
	body := io.TeeReader(&slowly{ctx: ctx, src: content(seed), size: size, over: over}, hash)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+l.addr+"/files/"+id, io.NopCloser(body))
	if err != nil {
		panic(err) // the request is made of constants
	}
	req.ContentLength = size
	if chunked {
		req.ContentLength = -1
	}
	req.Header.Set("Expect", "100-continue")
	l.do(req, &record{kind: kindUpload, id: id, due: l.now()}, func(resp *http.Response) error {
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if want := receipt(id, size, hash.Sum(nil)); string(got) != want {
			return fmt.Errorf("the application received %q, sent was %q", bytes.TrimSpace(got), want[:len(want)-1])
		}
		return nil
	})
}

// download checks what it gets against the checksum in the trailer and against what it can compute itself.
func (l *load) download(ctx context.Context, id string, size int64, seed uint64, over time.Duration) {
	url := fmt.Sprintf("http://%s/files/%s?bytes=%d&seed=%d&over=%s", l.addr, id, size, seed, over)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err) // the request is made of constants
	}
	l.do(req, &record{kind: kindDownload, due: l.now()}, func(resp *http.Response) error {
		got, want := sha256.New(), sha256.New()
		n, err := io.Copy(got, resp.Body)
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
		}
		if _, err := io.CopyN(want, content(seed), size); err != nil {
			return err
		}
		if n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			return fmt.Errorf("got %d bytes with checksum %x, expected %d with %x", n, got.Sum(nil), size, want.Sum(nil))
		}
		if sum := resp.Trailer.Get(sumHeader); sum != fmt.Sprintf("%x", got.Sum(nil)) {
			return fmt.Errorf("the trailer says checksum %q, got was %x", sum, got.Sum(nil))
		}
		return nil
	})
}

// eventStream reads a stream of numbered events to its end.
func (l *load) eventStream(random *rand.Rand) {
	const every = 100 * time.Millisecond
	last := l.lasting(random)
	count := max(2, int(last/every))
	ctx, cancel := context.WithTimeoutCause(l.hard, last+patience, errPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/events?count=%d&every=%s", l.addr, count, every), nil)
	if err != nil {
		panic(err) // the request is made of constants
	}
	l.do(req, &record{kind: kindEvents, due: l.now()}, func(resp *http.Response) error {
		return readEvents(resp.Body, resp.Header.Get(releaseHeader), count)
	})
}

// readEvents expects count events of a release, in order, then the end event, then the end of the stream.
func readEvents(r io.Reader, release string, count int) error {
	lines := bufio.NewScanner(r)
	expect := func(want string) error {
		if !lines.Scan() {
			return fmt.Errorf("the stream ends where %q should come: %w", want, errors.Join(lines.Err(), io.ErrUnexpectedEOF))
		}
		if lines.Text() != want {
			return fmt.Errorf("%q came where %q should", lines.Text(), want)
		}
		return nil
	}
	for i := range count {
		if err := errors.Join(expect("id: "+strconv.Itoa(i+1)), expect("data: "+release), expect("")); err != nil {
			return err
		}
	}
	if err := errors.Join(expect("event: end"), expect("data: "+strconv.Itoa(count)), expect("")); err != nil {
		return err
	}
	if lines.Scan() {
		return fmt.Errorf("%q came after the end", lines.Text())
	}
	return lines.Err()
}

// websocket talks to the echo for a while and then closes as the protocol wants it.
func (l *load) websocket(random *rand.Rand) {
	rec := record{kind: kindWebsocket, due: l.now()}
	l.records.begin(rec.kind)
	err := l.talk(l.hard, &rec, l.lasting(random), random)
	rec.ended = l.now()
	if err != nil && !errors.Is(context.Cause(l.hard), errQuit) {
		rec.err = err.Error()
	}
	l.records.end(rec)
}

func (l *load) talk(ctx context.Context, rec *record, lasting time.Duration, random *rand.Rand) error {
	raw, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return err
	}
	conn := &stampedConn{Conn: raw, epoch: l.epoch}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(lasting + patience))

	ws, resp, err := openWebsocket(conn, l.addr, "/echo")
	rec.sent, rec.told = time.Duration(conn.first.Load()), l.now()
	if err != nil {
		return err
	}
	rec.began, rec.slot, rec.release = true, resp.Header.Get(slotHeader), resp.Header.Get(releaseHeader)
	expect := func(op byte, want []byte) error {
		gotOp, got, err := ws.receive()
		if err != nil {
			return fmt.Errorf("waiting for a message of %d bytes: %w", len(want), err)
		}
		if gotOp != op || !bytes.Equal(got, want) {
			return fmt.Errorf("message of %d bytes, opcode %#x, came where one of %d, opcode %#x, should", len(got), gotOp, len(want), op)
		}
		return nil
	}
	if err := expect(opText, []byte("hello from "+rec.slot)); err != nil {
		return err
	}
	end := time.Now().Add(lasting)
	for n := 1; time.Now().Before(end); n++ {
		op, back, message := opText, opText, fmt.Appendf(nil, "message %d ", n)
		switch {
		case n%7 == 0:
			op, back = opPing, opPong
		case n%10 == 0:
			op, back = opBinary, opBinary
			message = append(message, bytes.Repeat([]byte("."), random.IntN(80<<10))...)
		}
		if err := ws.send(op, message); err != nil {
			return err
		}
		if err := expect(back, message); err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := ws.sendClose(closeNormal, "bye"); err != nil {
		return err
	}
	if err := expect(opClose, []byte("\x03\xe8bye")); err != nil {
		return err
	}
	if _, _, err := ws.receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the closing handshake: %v, not the end of the connection", err)
	}
	return nil
}
