package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/abswap/abswap"
)

// refereeEnv names the test's own server, which a deploytool that is started by a test tells what it is about to do, and what it has done, to
// its journal. It goes on when it is answered.
const refereeEnv = "DEPLOYTOOL_TEST_REFEREE"

// call is what a deploytool tells.
type call struct {
	when  string // "before" and "after" a record, "locked" after an attempt to lock the journal
	n     int    // number of the record in this run, from 1 on
	kind  abswap.RecordKind
	phase abswap.Phase
	took  time.Duration // of the attempt to lock
	busy  bool          // it was held
}

func (c call) String() string {
	return fmt.Sprintf("%s record %d (%s, %s)", c.when, c.n, c.kind, c.phase)
}

// newReferee serves judge. It returns what goes into the environment of the tool.
func newReferee(t *testing.T, judge func(call)) (env string) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		n, _ := strconv.Atoi(q.Get("n"))
		took, _ := strconv.Atoi(q.Get("took"))
		judge(call{q.Get("when"), n, abswap.RecordKind(q.Get("kind")), abswap.Phase(q.Get("phase")), time.Duration(took), q.Get("busy") != ""})
	}))
	t.Cleanup(srv.Close)
	return refereeEnv + "=" + srv.URL
}

// refereed wraps the journal so that the referee hears of it, if there is one.
func refereed(open func(string, abswap.JournalOptions) (abswap.Journal, error)) func(string, abswap.JournalOptions) (abswap.Journal, error) {
	referee := os.Getenv(refereeEnv)
	if referee == "" {
		return open
	}
	return func(dir string, o abswap.JournalOptions) (abswap.Journal, error) {
		j, err := open(dir, o)
		return &toldJournal{Journal: j, referee: referee}, err
	}
}

type toldJournal struct {
	abswap.Journal
	referee string
	n       int
}

// Unwrap lets the abilities through.
func (j *toldJournal) Unwrap() abswap.Journal { return j.Journal }

func (j *toldJournal) Lock(ctx context.Context, o abswap.Owner) (abswap.JournalHold, error) {
	began := time.Now()
	h, err := j.Journal.Lock(ctx, o)
	q := url.Values{"when": {"locked"}, "took": {strconv.Itoa(int(time.Since(began)))}}
	if errors.Is(err, abswap.ErrBusy) {
		q.Set("busy", "yes")
	}
	j.tell(q)
	if err != nil {
		return nil, err
	}
	return &toldHold{h, j}, nil
}

type toldHold struct {
	abswap.JournalHold
	j *toldJournal
}

func (h *toldHold) Append(ctx context.Context, r abswap.Record) error {
	h.j.n++
	q := url.Values{"when": {"before"}, "n": {strconv.Itoa(h.j.n)}, "kind": {string(r.Kind)}, "phase": {string(r.Phase)}}
	h.j.tell(q)
	err := h.JournalHold.Append(ctx, r)
	q.Set("when", "after")
	h.j.tell(q)
	return err
}

// tell waits for the answer. A referee that is gone is no reason to stop.
func (j *toldJournal) tell(q url.Values) {
	resp, err := http.Get(j.referee + "?" + q.Encode())
	if err == nil {
		resp.Body.Close()
	}
}
