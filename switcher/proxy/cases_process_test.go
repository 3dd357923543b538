package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// application is what runs in the process slots of these tests: it answers with its release, is sick while a file of that name lies in its
// folder, and holds requests to /hold until one to /go has come.
func application(addr string) {
	release := os.Getenv(process.EnvSlot) + " " + os.Getenv(process.EnvRelease)
	var once sync.Once
	open := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("sick"); err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, release) })
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		select {
		case <-open:
			io.WriteString(w, release)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/go", func(http.ResponseWriter, *http.Request) { once.Do(func() { close(open) }) })
	fmt.Println(http.ListenAndServe(addr, mux))
}

// processSlot is a slot of this very program at a fixed address, which is free now.
func processSlot(t *testing.T, name string) (slot *process.Slot, address string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = l.Addr().String()
	require.NoError(t, l.Close())
	slot, err = process.New(process.Config{Name: name, Dir: filepath.Join(t.TempDir(), name), Command: []string{self}, Address: address, Grace: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, slot.Stop(context.Background())) })
	return slot, address
}

// start brings a release up in the slot and returns its folder.
func start(t *testing.T, slot *process.Slot, release string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, slot.Stop(t.Context()))
	require.NoError(t, slot.Install(t.Context(), abswap.Release{ID: release, Path: dir}))
	require.NoError(t, slot.Start(t.Context()))
	soon(t, release+" is ready", func() bool { return slot.Ready(t.Context()) == nil })
	return dir
}

// The cases about health and about addresses that are used again, with slots that are real processes.
func TestA2A3A7WithProcesses(t *testing.T) {
	blue, address := processSlot(t, "blue")
	green, _ := processSlot(t, "green")
	sick := filepath.Join(start(t, blue, "v1"), "sick")
	start(t, green, "v2")
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
	f.activate(t, blue)
	ask(t, newClient(t), f.url) // a kept connection, which the next release may not inherit
	f.idle(t, "blue")

	held := make(chan string, 1)
	go func() {
		resp, err := http.Get(f.url + "/hold")
		if err != nil {
			held <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		held <- fmt.Sprint(string(body), err)
	}()
	soon(t, "a request in blue", func() bool { return f.load(t, "blue").Total() == 1 })
	f.activate(t, green)
	drained := make(chan error, 1)
	go func() {
		_, err := abswap.Drain(t.Context(), f, blue, abswap.DrainOptions{})
		drained <- err
	}()

	// A3, A2: probes of the draining slot, well and sick, land between switches, and change nothing.
	for i := range 20 {
		if i%2 == 0 {
			require.NoError(t, blue.Ready(t.Context()))
			require.NoError(t, os.WriteFile(sick, nil, 0o600))
		} else {
			require.True(t, errors.Is(blue.Ready(t.Context()), abswap.ErrNotReady))
			require.NoError(t, os.Remove(sick))
		}
		f.activate(t, green)
		_, _, body := ask(t, newClient(t), f.url)
		require.Equal(t, "green v2", body)
	}
	assert.Empty(t, drained, "the drain waits for the request")
	resp, err := http.Get("http://" + address + "/go")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "blue v1<nil>", within(t, held, "the held request"))
	require.NoError(t, within(t, drained, "drain"))

	// A7: another release at the same address is another generation: what was sick, counted and kept of the old one is not the new one's.
	require.NoError(t, os.WriteFile(sick, nil, 0o600))
	start(t, blue, "v3")
	f.activate(t, blue)
	assert.Zero(t, f.IdleConns("blue"))
	assert.Zero(t, f.load(t, "blue").Total())
	_, _, body := ask(t, newClient(t), f.url)
	assert.Equal(t, "blue v3", body)
	state, err := blue.Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, address, state.Address)
}
