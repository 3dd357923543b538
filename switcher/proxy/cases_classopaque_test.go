package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// zippedApp streams events in gzip, one for each of say.
type zippedApp struct {
	say  chan string
	gone chan bool
}

func (a *zippedApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	for {
		z.Flush()
		http.NewResponseController(w).Flush()
		select {
		case text := <-a.say:
			io.WriteString(z, text)
		case <-r.Context().Done():
			a.gone <- true
			return
		}
	}
}

// TestC3CompressedStreamsAreLeftAlone: nobody sees where an event ends in gzip. A drain that closes streams politely leaves such a one alone, its
// grace notwithstanding; at its cap, and only then, it is cut.
func TestC3CompressedStreamsAreLeftAlone(t *testing.T) {
	app := &zippedApp{make(chan string), make(chan bool, 10)}
	polite := abswap.ClassRule{Policy: abswap.ClosePolitely, Window: -1, Grace: time.Millisecond}
	judge := func(t *testing.T, f *front, c *http.Client, d abswap.Drainer) error {
		resp, err := c.Get(f.url)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
		var events *gzip.Reader
		next := func(text string) error {
			app.say <- text
			if events == nil {
				if events, err = gzip.NewReader(resp.Body); err != nil {
					return err
				}
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(events, got); err != nil {
				return fmt.Errorf("the stream was cut: %w", err)
			}
			if !bytes.Equal(got, []byte(text)) {
				return fmt.Errorf("got %q, not %q", got, text)
			}
			return nil
		}
		require.NoError(t, next("data: 1\n\n"))
		f.activate(t, plain("green"))
		ctx, enough := context.WithCancel(t.Context())
		defer enough()
		began := time.Now()
		res, err := abswap.Drain(ctx, d, plain("blue"), abswap.DrainOptions{Poll: 10 * time.Millisecond, Classes: classRules{abswap.ClassStream: polite},
			OnLoad: func(abswap.Load) {
				if time.Since(began) > 100*time.Millisecond {
					enough()
				}
			}})
		if o := res.Classes[abswap.ClassStream]; !errors.Is(err, context.Canceled) || o.Left != 1 || o.Asked != 0 {
			within(t, app.gone, "the slot sees it")
			return fmt.Errorf("the stream was not left alone: %+v, %w", res.Classes, err)
		}
		if err := next("data: 2\n\n"); err != nil {
			return err
		}
		capped := polite
		capped.Cap = time.Millisecond
		res, err = abswap.Drain(t.Context(), d, plain("blue"), abswap.DrainOptions{Poll: 10 * time.Millisecond, Classes: classRules{abswap.ClassStream: capped}})
		require.NoError(t, err)
		assert.Equal(t, classOutcomes{abswap.ClassStream: {Cut: 1}}, res.Classes)
		_, err = io.ReadAll(events)
		assert.Error(t, err, "its client sees that it is not whole")
		within(t, app.gone, "the slot sees it")
		return nil
	}
	each := func(t *testing.T, f func(t *testing.T, f *front, c *http.Client)) {
		start := func(t *testing.T) *front {
			f, _, _ := pair(t, app.ServeHTTP, hello)
			return f
		}
		t.Run("Serve", func(t *testing.T) { f(t, start(t), newClient(t)) })
		t.Run("ServeHTTP", func(t *testing.T) {
			fr := start(t)
			srv := httptest.NewServer(fr.Switcher)
			t.Cleanup(srv.Close)
			f(t, &front{fr.Switcher, address(srv), srv.URL}, newClient(t))
		})
		t.Run("HTTP/2", func(t *testing.T) { f(t, start(t), h2Client(t, nil)) })
	}
	each(t, func(t *testing.T, f *front, c *http.Client) { require.NoError(t, judge(t, f, c, f.Switcher)) })
	t.Run("through the control plane", func(t *testing.T) {
		f, _, _ := pair(t, app.ServeHTTP, hello)
		require.NoError(t, judge(t, f, newClient(t), controlled(t, f.Switcher, proxy.ControlOptions{}).client(t)))
	})
	t.Run("planted", func(t *testing.T) {
		each(t, func(t *testing.T, f *front, c *http.Client) {
			proxy.TakeForPlain(f.Switcher)
			assert.ErrorContains(t, judge(t, f, c, f.Switcher), "the stream was not left alone")
		})
	})
}

type classOutcomes = map[abswap.Class]abswap.ClassOutcome
