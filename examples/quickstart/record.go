package main

import (
	"sync"
	"time"
)

// kind is a kind of work that a client does.
type kind string

const (
	kindGet       kind = "GET"
	kindPost      kind = "POST"
	kindThink     kind = "slow GET"
	kindUpload    kind = "upload"
	kindDownload  kind = "download"
	kindWebsocket kind = "websocket"
	kindEvents    kind = "event stream"
)

// long tells work that takes so long that a switch finds it in the middle.
func (k kind) long() bool {
	return k == kindUpload || k == kindDownload || k == kindWebsocket || k == kindEvents
}

// record is what a client saw of one piece of work. Times are since the epoch of the run, on the monotonic clock.
type record struct {
	kind    kind
	id      string        // what the application writes into its ledger; "": nothing is delivered
	due     time.Duration // when the plan wanted it to be sent
	sent    time.Duration // just before its first byte was written; 0: nothing was written
	told    time.Duration // when the client first heard from a slot: the answer's head, or 100 Continue
	ended   time.Duration
	slot    string // that answered; "": none
	release string // that answered
	began   bool   // it was under way: an answer had begun, or an upload's body
	err     string // "": whole and right
}

// records collects records from many goroutines.
type records struct {
	mu   sync.Mutex
	all  []record
	open map[kind]int // under way now
	bad  int
}

func (r *records) begin(k kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[kind]int{}
	}
	r.open[k]++
}

func (r *records) end(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[rec.kind]--
	r.all = append(r.all, rec)
	if rec.err != "" {
		r.bad++
	}
}

// tally is a glance at the records while they are being made.
type tally struct{ done, bad, short, long int }

func (r *records) tally() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := tally{done: len(r.all), bad: r.bad}
	for k, n := range r.open {
		if k.long() {
			t.long += n
		} else {
			t.short += n
		}
	}
	return t
}

// list returns all records; nobody may be adding any more.
func (r *records) list() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}
