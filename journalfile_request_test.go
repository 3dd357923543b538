package abswap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func TestFileJournalRequestsReachTheHolder(t *testing.T) {
	dir := t.TempDir()
	h := lockJournal(t, openJournal(t, dir))
	c := startChild(t, dir)
	for i := range 5 {
		type taken struct {
			r   abswap.Request
			err error
			at  time.Time
		}
		done := make(chan taken)
		go func() {
			r, err := h.NextRequest(t.Context())
			done <- taken{r, err, time.Now()}
		}()
		posted := c.ask(t, "post %s", []string{"cancel", "yield"}[i%2])
		require.Empty(t, posted.Err)
		returned := time.Now()
		got := <-done
		require.NoError(t, got.err)
		assert.Equal(t, abswap.RequestKind([]string{"cancel", "yield"}[i%2]), got.r.Kind)
		assert.Equal(t, c.cmd.Process.Pid, got.r.From.PID)
		t.Logf("seen %s after Post had returned", got.at.Sub(returned))
		assert.Less(t, got.at.Sub(returned), 10*time.Second)
		left, err := os.ReadDir(filepath.Join(dir, "requests"))
		require.NoError(t, err)
		assert.Empty(t, left, "it is taken")
	}
}

func TestFileJournalRequestsComeInOrder(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	h := lockJournal(t, j)
	for i := range 10 {
		require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel, Why: fmt.Sprint(i)}))
	}
	for i := range 10 {
		r, err := h.NextRequest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(i), r.Why)
	}
}

func TestFileJournalDropsRequestsOfAnEarlierHolder(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	requests := filepath.Join(dir, "requests")
	require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}), "nobody to ask")
	assert.NoDirExists(t, requests)

	h, err := j.Lock(t.Context(), abswap.Owner{})
	require.NoError(t, err)
	require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}))
	left, err := os.ReadDir(requests)
	require.NoError(t, err)
	require.Len(t, left, 1)
	data, err := os.ReadFile(filepath.Join(requests, left[0].Name()))
	require.NoError(t, err)
	require.NoError(t, h.Unlock())

	h = lockJournal(t, j)
	left, err = os.ReadDir(requests)
	require.NoError(t, err)
	assert.Empty(t, left, "dropped by Lock")
	require.NoError(t, os.WriteFile(filepath.Join(requests, "0.json"), data, 0o600)) // one that was slow to arrive
	require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestYield}))
	r, err := h.NextRequest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, abswap.RequestYield, r.Kind, "meant for this holder")
	assert.NoFileExists(t, filepath.Join(requests, "0.json"))
}

func TestFileJournalIgnoresWhatIsNoRequest(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	j, err := abswap.OpenJournal(dir, abswap.JournalOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	h := lockJournal(t, j)
	requests := filepath.Join(dir, "requests")
	for name, data := range map[string]string{
		"0-empty.json": "", "0-malformed.json": `{"kind":`, "0-huge.json": `{"kind":"cancel","why":"` + strings.Repeat("x", 1<<20) + `"}`,
		"0-another.json": `{"kind":"cancel"}`, "0-list": `[]`, ".0.tmp": `{"kind":"cancel"}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(requests, name), []byte(data), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(requests, "0-folder"), 0o700))
	require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestYield}))
	r, err := h.NextRequest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, abswap.RequestYield, r.Kind)
	left, err := os.ReadDir(requests)
	require.NoError(t, err)
	require.Len(t, left, 1, "removed")
	assert.Equal(t, ".0.tmp", left[0].Name(), "but for one that is just being written")
	for _, name := range []string{"0-empty.json", "0-malformed.json", "0-huge.json", "0-another.json", "0-list", "0-folder"} {
		assert.Contains(t, log.String(), name, "and it is said")
	}

	assert.ErrorIs(t, j.Post(t.Context(), abswap.Request{}), abswap.ErrPermanent)
	assert.ErrorIs(t, j.Post(t.Context(), abswap.Request{Kind: "cancel", Why: strings.Repeat("x", 1<<20)}), abswap.ErrPermanent)
	for range 63 {
		require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}))
	}
	assert.ErrorContains(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}), "64 requests wait")
}

func TestFileJournalWaitsForARequest(t *testing.T) {
	j := openJournal(t, t.TempDir())
	h := lockJournal(t, j)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, err := h.NextRequest(ctx)
		done <- err
	}()
	cancel(why)
	assert.ErrorIs(t, <-done, why)
	go func() {
		_, err := h.NextRequest(t.Context())
		done <- err
	}()
	require.NoError(t, h.Unlock())
	assert.ErrorContains(t, <-done, "not held any more")
}

func TestFileJournalWithoutItsFolderOfRequests(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	h := lockJournal(t, j)
	require.NoError(t, os.Remove(filepath.Join(dir, "requests")))
	_, err := h.NextRequest(t.Context())
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorIs(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}), os.ErrNotExist)
	assert.NoError(t, h.Append(t.Context(), begin("s")), "the swap itself goes on")
}
