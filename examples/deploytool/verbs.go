package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// session is what a short-lived command works with.
type session struct {
	*abswap.Swapper
	client   *proxy.Client
	progress *progress
}

// open puts a session together and makes sure that the proxy answers. close it.
func (t *tool) session(ctx context.Context) (*session, error) {
	client, err := t.cfg.client()
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errUnreachable, err)
	}
	slots, err := t.cfg.slots()
	if err != nil {
		return nil, err
	}
	journal, err := t.open(t.cfg.journalDir(), abswap.JournalOptions{Keep: t.cfg.KeepSwaps})
	if err != nil {
		return nil, err
	}
	s := &session{client: client, progress: newProgress(t.out, t.o.json, isTerminal(t.out))}
	s.progress.drain = t.cfg.Deploy.Drain
	s.progress.report = func(swap string) (abswap.Report, error) {
		return abswap.ReadReport(context.WithoutCancel(ctx), journal, swap)
	}
	s.Swapper = t.cfg.swapper(client, slots, journal, s.progress.event)
	if err := reachable(ctx, client, t.command.patience); err != nil {
		return s, err
	}
	return s, nil
}

func (s *session) close() {
	if s != nil {
		s.progress.close()
		s.client.Close()
	}
}

// reachable asks the proxy for a sign of life. A serve that is just being started again gets a moment.
func reachable(ctx context.Context, client *proxy.Client, patience time.Duration) error {
	for end := time.Now().Add(patience); ; {
		_, err := client.Weights(ctx)
		if err == nil {
			return nil
		}
		if _, answered := errors.AsType[*proxy.ControlError](err); answered {
			return err
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("%w (%w)", errUnreachable, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// swap runs a verb that carries a swap, and tells how it ended.
func (t *tool) swap(ctx context.Context, verb func(context.Context, *session) (abswap.Report, error)) int {
	s, err := t.session(ctx)
	defer s.close()
	if err != nil {
		return t.fail(exitCode(abswap.Report{}, err), err)
	}
	rep, err := verb(ctx, s)
	code := exitCode(rep, err)
	if t.isDone(code, rep.Outcome) {
		code, err = exitOK, nil
	}
	s.progress.close()
	if t.o.json {
		t.json(struct {
			Kind   string        `json:"kind"`
			Exit   int           `json:"exit"`
			Report abswap.Report `json:"report"`
		}{"report", code, rep})
	} else {
		s.progress.summary(rep, err)
	}
	if err != nil {
		t.fail(code, err)
	}
	return code
}

func (t *tool) json(v any) {
	json.NewEncoder(t.out).Encode(v)
}

// release is the one that the command line names.
func (t *tool) release() (abswap.Release, error) {
	r := abswap.Release{ID: t.args[0], Path: t.o.path}
	if err := r.Check(); err != nil {
		return r, err
	}
	var err error
	switch {
	case r.Path != "":
		r.Path, err = filepath.Abs(r.Path)
	case t.cfg.Releases != "":
		r.Path = filepath.Join(t.cfg.Releases, r.ID)
	default:
		err = errors.New("where are the files of the release? Name their folder with -path, or set releases in the config file")
	}
	if err != nil {
		return r, err
	}
	if info, err := os.Stat(r.Path); err != nil {
		return r, fmt.Errorf("release %q: %w", r.ID, err)
	} else if !info.IsDir() {
		return r, fmt.Errorf("release %q: %s is not a folder", r.ID, r.Path)
	}
	return r, nil
}

func (t *tool) deploy(ctx context.Context) int {
	rel, err := t.release()
	if err != nil {
		return t.fail(exitRefused, err)
	}
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Deploy(ctx, rel) })
}

func (t *tool) plan(ctx context.Context) int {
	rel, err := t.release()
	if err != nil {
		return t.fail(exitRefused, err)
	}
	s, err := t.session(ctx)
	defer s.close()
	if err != nil {
		return t.fail(exitCode(abswap.Report{}, err), err)
	}
	p, err := s.Plan(ctx, rel)
	if err != nil {
		return t.fail(exitRefused, err)
	}
	if t.o.json {
		t.json(p)
		return exitOK
	}
	if p.From == "" {
		fmt.Fprintf(t.out, "%s would be the first release; it would go into slot %s\n", p.Release, p.To)
	} else {
		fmt.Fprintf(t.out, "%s would go into slot %s and replace what slot %s serves\n", p.Release, p.To, p.From)
	}
	fmt.Fprint(t.out, p)
	return exitOK
}

func (t *tool) approve(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Approve(ctx) })
}

func (t *tool) resume(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Resume(ctx) })
}

func (t *tool) adopt(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Adopt(ctx) })
}

func (t *tool) abandon(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Abandon(ctx) })
}

// isDone tells whether a verb has done what it was asked for, although for the deploy itself that is a failure.
func (t *tool) isDone(code int, o abswap.Outcome) bool {
	switch t.command.name {
	case "cancel":
		return code == exitDiscarded || code == exitRolledBack || code == exitCanceled
	case "abandon":
		return o == abswap.OutcomeAbandoned
	}
	return false
}

func (t *tool) cancel(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) { return s.Cancel(ctx) })
}

// swapBack goes back to the slot that served before the newest swap.
func (t *tool) swapBack(ctx context.Context) int {
	return t.swap(ctx, func(ctx context.Context, s *session) (abswap.Report, error) {
		to := ""
		if len(t.args) > 0 {
			to = t.args[0]
		} else {
			var err error
			if to, err = s.before(ctx); err != nil {
				return abswap.Report{Outcome: abswap.OutcomeRefused}, err
			}
		}
		if err := s.holdsRelease(ctx, to); err != nil {
			return abswap.Report{Outcome: abswap.OutcomeRefused}, err
		}
		return s.Swap(ctx, to)
	})
}

// holdsRelease refuses a slot that was never used.
func (s *session) holdsRelease(ctx context.Context, name string) error {
	for _, slot := range s.Slots {
		in, ok := slot.(abswap.InspectingSlot)
		if slot.Name() != name || !ok {
			continue
		}
		st, err := in.Inspect(ctx)
		if err == nil && st.Release == "" {
			err = fmt.Errorf("slot %q holds no release to go back to", name)
		}
		return err
	}
	return fmt.Errorf("slot %q: %w", name, abswap.ErrUnknownSlot)
}

// before finds the slot to go back to: the one that served before, which is the other one where there are two.
func (s *session) before(ctx context.Context) (string, error) {
	w, err := s.client.Weights(ctx)
	if err != nil {
		return "", err
	}
	var others []string
	for _, slot := range s.Slots {
		if w[slot.Name()] == 0 {
			others = append(others, slot.Name())
		}
	}
	if len(w) > 0 && len(others) == 1 {
		return others[0], nil
	}
	st, err := s.Status(ctx)
	if err != nil {
		return "", err
	}
	if st.Newest == nil || st.Newest.From == "" || w[st.Newest.From] > 0 {
		return "", fmt.Errorf("no slot is known to have served before: name one of %s", strings.Join(others, ", "))
	}
	return st.Newest.From, nil
}
