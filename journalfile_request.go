package abswap

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
)

const (
	requestSize  = 16 << 10 // bytes, at most
	requestsMost = 64       // that wait at one time
	requestPoll  = 50 * time.Millisecond
)

// postedRequest is the content of a request's file.
type postedRequest struct {
	Request
	Hold string `json:"hold"` // heldBy.Hold of whom it is meant for
}

// Post implements Journal. Without a holder it does nothing. It refuses requests of more than 16 KiB, and when 64 wait already.
func (j *FileJournal) Post(ctx context.Context, r Request) error {
	by, held, err := j.heldBy(ctx)
	if err != nil || !held {
		return err
	}
	data, err := json.Marshal(postedRequest{Request: r, Hold: by.Hold})
	switch {
	case err != nil:
		return err
	case r.Kind == "":
		return fmt.Errorf("a request without a kind: %w", ErrPermanent)
	case len(data) > requestSize:
		return fmt.Errorf("request %q has %d bytes, at most %d are allowed: %w", r.Kind, len(data), requestSize, ErrPermanent)
	}
	waiting, err := os.ReadDir(j.path("requests"))
	if err != nil {
		return err
	}
	if len(waiting) >= requestsMost {
		return fmt.Errorf("request %q: %d requests wait in %q already and the holder, process %d on %s, takes none",
			r.Kind, len(waiting), j.path("requests"), by.PID, by.Host)
	}
	name := time.Now().UTC().Format("20060102-150405.000000000") + "-" + strings.ToLower(rand.Text()[:8]) + ".json"
	return atomicfile.Write(j.path("requests", name), append(data, '\n'), filePerm)
}

// NextRequest implements JournalHold. Files in the folder of requests that are none, or are meant for another holder, are removed and logged.
func (h *fileHold) NextRequest(ctx context.Context) (Request, error) {
	h.taking.Lock()
	defer h.taking.Unlock()
	wait := time.NewTicker(requestPoll)
	defer wait.Stop()
	for {
		select {
		case <-h.ended:
			return Request{}, fmt.Errorf("journal %q is not held any more: %w", h.j.dir, ErrPermanent)
		case <-ctx.Done():
			return Request{}, context.Cause(ctx)
		default:
		}
		if r, ok, err := h.takeRequest(); ok || err != nil {
			return r, err
		}
		select {
		case <-h.ended:
		case <-ctx.Done():
		case <-wait.C:
		}
	}
}

// takeRequest takes the oldest request; false if none waits.
func (h *fileHold) takeRequest() (Request, bool, error) {
	entries, err := os.ReadDir(h.j.path("requests"))
	if err != nil {
		return Request{}, false, err
	}
	for _, e := range entries { // sorted by name, which begins with the time
		name := e.Name()
		if h.stuck[name] || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") { // the latter is just being written
			continue
		}
		r, err := h.readRequest(e)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if rerr := atomicfile.Remove(h.j.path("requests", name)); rerr != nil {
			h.stuck[name] = true // so that it is not taken twice
			h.j.log.Warn("a request stays in its folder", "name", name, "err", rerr)
		}
		if err == nil {
			return r, true, nil
		}
		h.j.log.Warn("a request was ignored", "name", name, "err", err)
	}
	return Request{}, false, nil
}

func (h *fileHold) readRequest(e fs.DirEntry) (Request, error) {
	info, err := e.Info()
	if err != nil {
		return Request{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > requestSize+1 {
		return Request{}, fmt.Errorf("%s with %d bytes is not a request", info.Mode(), info.Size())
	}
	data, err := atomicfile.Read(h.j.path("requests", e.Name()))
	if err != nil {
		return Request{}, err
	}
	var p postedRequest
	if err := json.Unmarshal(data, &p); err != nil {
		return Request{}, err
	}
	if p.Hold != h.token || p.Kind == "" {
		return Request{}, errors.New("it is meant for another holder")
	}
	return p.Request, nil
}

// clearRequests makes the folder of requests, and drops what an earlier holder did not take.
func (j *FileJournal) clearRequests() error {
	dir := j.path("requests")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Mkdir(dir, folderPerm)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		if err := atomicfile.Remove(j.path("requests", e.Name())); err != nil { // it is not obeyed all the same: it names another hold
			j.log.Warn("a request stays in its folder", "name", e.Name(), "err", err)
		}
	}
	removeLitter(dir)
	return nil
}
