package proxy_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// cutWriter is a stream as net/http has it: a write deadline that has passed ends its context, and after its handler there is nothing of it.
type cutWriter struct {
	reset   context.CancelFunc
	written chan bool
	over    chan struct{} // closed by the deadline
	gone    atomic.Bool   // the handler has returned
	late    *atomic.Int64
}

func (w *cutWriter) Header() http.Header { return http.Header{} }
func (w *cutWriter) WriteHeader(int)     {}
func (w *cutWriter) Flush()              {}

func (w *cutWriter) Write(p []byte) (int, error) {
	w.written <- true
	<-w.over
	return 0, os.ErrDeadlineExceeded
}

func (w *cutWriter) SetWriteDeadline(time.Time) error {
	if w.gone.Load() {
		w.late.Add(1)
		return nil
	}
	if w.reset != nil {
		w.reset()
		w.reset = nil
		close(w.over)
	}
	return nil
}

// TestACutTouchesNoStreamThatIsNoMore: what is cut breaks off the client's stream, whose context ends by that; the handler returns at the same time,
// and net/http panics where one that has returned asks for a deadline.
func TestACutTouchesNoStreamThatIsNoMore(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, hello)
	var late atomic.Int64
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		w := &cutWriter{reset: cancel, written: make(chan bool, 1), over: make(chan struct{}), late: &late}
		r, err := http.NewRequestWithContext(ctx, "GET", f.url, nil)
		require.NoError(t, err)
		r.ProtoMajor, r.RequestURI = 2, "/"
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			defer w.gone.Store(true)
			defer func() { assert.Equal(t, http.ErrAbortHandler, recover()) }()
			f.ServeHTTP(w, r)
		}()
		within(t, w.written, "the answer is on its way")
		require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
		within(t, returned, "the handler")
		f.idle(t, "blue")
	}
	assert.Zero(t, late.Load())
}
