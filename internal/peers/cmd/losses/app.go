package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The application in a slot, the same in all rows. Every answer names its slot. It speaks HTTP/1.1, and HTTP/2 in plain text.

// startApp serves the slot on loopback until it is closed.
func startApp(slot string) (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /post", post)
	mux.HandleFunc("POST /grpc", unary)
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("GET /socket", socket)
	mux.HandleFunc("POST /talk", talk)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Slot", slot)
		mux.ServeHTTP(w, r)
	})}
	go srv.Serve(l)
	return srv, l.Addr().String(), nil
}

// post answers with the body.
func post(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(b)
}

// unary is post with what gRPC puts around it: the status is in the trailer.
func unary(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	post(w, r)
	w.Header().Set("Grpc-Status", "0")
}

// eventEvery is how often a stream of events, or who talks, says something.
const eventEvery = 200 * time.Millisecond

// events sends numbered events for ever.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// The key of RFC 6455, 1.3, and what it is answered with: HAProxy looks at both.
const (
	socketKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	socketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// socket takes the connection over and sends back each line.
func socket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "upgrade", http.StatusUpgradeRequired)
		return
	}
	c, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
		socketAccept+"\r\n\r\n")
	echo(c, brw.Reader, func() error { return nil })
}

// talk sends back each line of the body while that goes on.
func talk(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusOK)
	rc.Flush()
	echo(w, bufio.NewReader(r.Body), rc.Flush)
}

func echo(w io.Writer, r *bufio.Reader, flush func() error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(w, line); err != nil || flush() != nil {
			return
		}
	}
}
