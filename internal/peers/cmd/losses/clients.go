package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A client does what a browser or a service does. None of them repeats anything: what is lost is counted.

// caller sends one request after the other.
type caller interface {
	// post sends body, which cannot be had again, and returns the slot that sent it back.
	post(body string) (slot string, err error)
	// upload sends a body of n pieces, one every pause.
	upload(n int, pause time.Duration) error
	// events reads events until ctx ends; it is nil if none was missing until then.
	events(ctx context.Context) error
	// talk says something, hears it back, and so on, until ctx ends.
	talk(ctx context.Context) error
	close()
}

const talkLine = "hello\n"

// patience is how long an answer may take.
const patience = 30 * time.Second

// plainCaller speaks HTTP/1.1 over a connection that it keeps, or over a new one each time.
type plainCaller struct {
	addr   string
	always bool // a new connection for each request
	c      net.Conn
	br     *bufio.Reader
}

func (p *plainCaller) close() {
	if p.c != nil {
		p.c.Close()
		p.c = nil
	}
}

// connect makes sure that there is a connection.
func (p *plainCaller) connect() (err error) {
	if p.always {
		p.close()
	}
	if p.c == nil {
		if p.c, err = net.DialTimeout("tcp", p.addr, patience); err != nil {
			return err
		}
		p.br = bufio.NewReader(p.c)
	}
	return p.c.SetDeadline(time.Now().Add(patience))
}

// answer reads an answer and its body.
func (p *plainCaller) answer() (slot string, body []byte, err error) {
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return "", nil, err
	}
	body, err = io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	if resp.Close {
		p.close()
	}
	return resp.Header.Get("Slot"), body, err
}

func (p *plainCaller) post(body string) (slot string, err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.connect(); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(p.c, "POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return "", err
	}
	slot, got, err := p.answer()
	if err == nil && string(got) != body {
		err = fmt.Errorf("the answer is %q", got)
	}
	return slot, err
}

var uploadPiece = bytes.Repeat([]byte("x"), 8<<10)

func (p *plainCaller) upload(n int, pause time.Duration) (err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.connect(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(p.c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n*len(uploadPiece)); err != nil {
		return err
	}
	for range n {
		time.Sleep(pause)
		if _, err := p.c.Write(uploadPiece); err != nil {
			return err
		}
	}
	_, got, err := p.answer()
	return uploaded(string(got), n, err)
}

func uploaded(got string, n int, err error) error {
	if want := fmt.Sprint(n * len(uploadPiece)); err == nil && got != want {
		return fmt.Errorf("the answer is %q, not %s", got, want)
	}
	return err
}

func (p *plainCaller) events(ctx context.Context) error {
	if err := p.connect(); err != nil {
		return err
	}
	c := p.c
	c.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(p.c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return err
	}
	return follow(ctx, resp)
}

// follow reads the events of an answer.
func follow(ctx context.Context, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewReader(resp.Body)
	for i := 0; ; i++ {
		for _, want := range []string{fmt.Sprintf("data: %d\n", i), "\n"} {
			line, err := lines.ReadString('\n')
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return fmt.Errorf("after %d events: %w", i, err)
			case line != want:
				return fmt.Errorf("%q, not %q", line, want)
			}
		}
	}
}

func (p *plainCaller) talk(ctx context.Context) error {
	if err := p.connect(); err != nil {
		return err
	}
	if _, err := io.WriteString(p.c, "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: "+socketKey+"\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return converse(ctx, p.c, p.br, func() { p.c.SetDeadline(time.Now().Add(patience)) })
}

// converse says a line and hears it back, and so on.
func converse(ctx context.Context, w io.Writer, r *bufio.Reader, before func()) error {
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		before()
		if _, err := io.WriteString(w, talkLine); err != nil {
			return fmt.Errorf("after %d lines: %w", i, err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != talkLine {
			return fmt.Errorf("after %d lines: %q: %w", i, line, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// streamCaller speaks HTTP/2 in plain text over a connection that it keeps.
type streamCaller struct {
	url  string
	grpc bool // posts are calls of gRPC, with a status in the trailer
	tr   *http.Transport
}

func newStreamCaller(addr string, grpc bool) *streamCaller {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &streamCaller{"http://" + addr, grpc, &http.Transport{Protocols: p, DisableCompression: true}}
}

func (s *streamCaller) close() { s.tr.CloseIdleConnections() }

// once is a body that cannot be had again.
type once struct{ io.Reader }

func (s *streamCaller) do(ctx context.Context, method, path string, body io.Reader, length int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return nil, err
	}
	r.GetBody = nil
	if body != nil {
		r.ContentLength = length
	}
	if s.grpc && method == http.MethodPost {
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
	}
	resp, err := s.tr.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		resp.Body.Close()
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	case resp.ProtoMajor != 2:
		resp.Body.Close()
		return nil, fmt.Errorf("the front door speaks %s", resp.Proto)
	}
	return resp, nil
}

func (s *streamCaller) post(body string) (slot string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path, length, sent := "/post", int64(len(body)), body
	if s.grpc {
		path, length = "/grpc", -1
		sent = string([]byte{0, 0, 0, 0, byte(len(body))}) + body
	}
	resp, err := s.do(ctx, http.MethodPost, path, once{strings.NewReader(sent)}, length)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", err
	case string(got) != sent:
		return "", fmt.Errorf("the answer is %q", got)
	case s.grpc && resp.Trailer.Get("Grpc-Status") != "0":
		return "", fmt.Errorf("the trailer is %v", resp.Trailer)
	}
	return resp.Header.Get("Slot"), nil
}

func (s *streamCaller) upload(n int, pause time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, w := io.Pipe()
	go func() {
		for range n {
			time.Sleep(pause)
			if _, err := w.Write(uploadPiece); err != nil {
				return
			}
		}
		w.Close()
	}()
	defer r.Close()
	resp, err := s.do(ctx, http.MethodPost, "/upload", r, int64(n*len(uploadPiece)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return uploaded(string(got), n, err)
}

func (s *streamCaller) events(ctx context.Context) error {
	resp, err := s.do(ctx, http.MethodGet, "/events", nil, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return follow(ctx, resp)
}

func (s *streamCaller) talk(ctx context.Context) error {
	own, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	defer w.Close()
	resp, err := s.do(own, http.MethodPost, "/talk", r, -1)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	deaf := time.AfterFunc(patience, cancel)
	defer deaf.Stop()
	err = converse(ctx, w, bufio.NewReader(resp.Body), func() { deaf.Reset(patience) })
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("nothing came back within %s", patience)
	}
	return err
}
