package proxy_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"
)

// h2stream is what a client has got of one stream.
type h2stream struct {
	heads int // header blocks: the answer's head, its trailer
	first byte
	data  string
	ended bool  // END_STREAM
	bare  bool  // and that was on a header block
	reset int64 // code of RST_STREAM; -1: none
}

// h2watch is an h2raw whose frames are read as they come.
type h2watch struct {
	*h2raw
	mu      sync.Mutex
	streams map[uint32]h2stream
	goAways []uint32 // last streams
	over    bool     // the connection has ended
	next    uint32
}

func (f *front) h2watch(t testing.TB) *h2watch {
	w := &h2watch{h2raw: f.h2raw(t), streams: map[uint32]h2stream{}, next: 1}
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			kind, flags, id, payload, err := w.h2raw.next()
			w.mu.Lock()
			s, ok := w.streams[id]
			if !ok {
				s.reset = -1
			}
			switch {
			case err != nil:
				w.over = true
				w.mu.Unlock()
				return
			case kind == frameData:
				s.data += string(payload)
			case kind == frameHeaders:
				if s.heads++; s.heads == 1 {
					s.first = payload[0]
				}
			case kind == frameReset:
				s.reset = int64(binary.BigEndian.Uint32(payload))
			case kind == frameGoAway:
				w.goAways = append(w.goAways, binary.BigEndian.Uint32(payload))
			}
			if kind == frameData || kind == frameHeaders {
				s.ended = s.ended || flags&endStream != 0
				s.bare = s.ended && kind == frameHeaders
			}
			if id != 0 {
				w.streams[id] = s
			}
			w.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		w.Close()
		reader.Wait()
	})
	return w
}

// begin begins a request; one that is not whole is a POST.
func (w *h2watch) begin(path string, whole bool, more ...[2]string) (id uint32) {
	w.mu.Lock()
	id = w.next
	w.next += 2
	w.mu.Unlock()
	method, flags := "POST", byte(endHeaders)
	if whole {
		method, flags = "GET", endHeaders|endStream
	}
	all := append(fields{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}}, more...)
	w.frame(frameHeaders, flags, id, all.block())
	return id
}

func (w *h2watch) send(id uint32, text string, last bool) {
	var flags byte
	if last {
		flags = endStream
	}
	w.frame(frameData, flags, id, []byte(text))
}

func (w *h2watch) at(id uint32) h2stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.streams[id]
	if !ok {
		s.reset = -1
	}
	return s
}

// told returns the last streams of the GOAWAYs that have come.
func (w *h2watch) told() []uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]uint32(nil), w.goAways...)
}

// got waits until the stream has brought that much.
func (w *h2watch) got(id uint32, text string) {
	w.t.Helper()
	soon(w.t, fmt.Sprintf("%q on stream %d", text, id), func() bool { return w.at(id).data == text })
}

// end waits for the end of the stream, whatever it is.
func (w *h2watch) end(id uint32) h2stream {
	w.t.Helper()
	soon(w.t, fmt.Sprintf("the end of stream %d", id), func() bool { return w.isOver(id) })
	return w.at(id)
}

func (w *h2watch) isOver(id uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.streams[id]
	return w.over || ok && (s.ended || s.reset >= 0)
}

// endsWithin waits for the end of the stream for that long.
func (w *h2watch) endsWithin(id uint32, d time.Duration) {
	for until := time.Now().Add(d); !w.isOver(id) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}
