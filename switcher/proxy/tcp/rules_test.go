package tcp_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/tcp"
	"github.com/abswap/abswap/switcher/switchertest"
)

// plain is a slot that is only a name.
type plain string

func (p plain) Name() string { return string(p) }

func (p plain) Ready(context.Context) error { return nil }

// TestRules runs the conformance suite on two applications that speak HTTP behind the TCP door. A connection counts as upgraded, whatever it
// carries, so websockets are the work that is counted.
func TestRules(t *testing.T) {
	t.Parallel()
	switchertest.Run(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, err := newRig(ctx)
		begin := rig.Begin
		rig.Begin = func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
			if kind != switchertest.KindUpgraded {
				return switchertest.Work{}, errors.ErrUnsupported
			}
			return begin(ctx, kind)
		}
		return rig, err
	})
}

// TestRulesOfRequests runs it with requests, uploads and downloads too, each on a connection of its own.
func TestRulesOfRequests(t *testing.T) {
	t.Parallel()
	const alike = "a request counts as an upgraded connection here, so the suite's tally by kind does not hold"
	switchertest.Run(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, err := newRig(ctx)
		rig.Load = 60 // the data path is that of TestRules
		rig.Except = map[string]string{}
		for _, kind := range []switchertest.Kind{switchertest.KindRequest, switchertest.KindUpload, switchertest.KindDownload} {
			rig.Except["D1/"+kind.String()+"-counts"] = alike
		}
		for _, rule := range []string{"D1/counts-equal-open", "D1/aborted-leaves", "D1/old-generations-count", "D1/list", "D1/drain-races-requests",
			"D2/exact-under-load", "W1/seal-keeps-old-work"} {
			rig.Except[rule] = alike
		}
		return rig, err
	})
}

func newRig(context.Context) (switchertest.Rig, error) {
	blue := httptest.NewServer(switchertest.NewApp("blue"))
	green := httptest.NewServer(switchertest.NewApp("green"))
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": blue.Listener.Addr().String(), "green": green.Listener.Addr().String()}, Active: "blue"})
	if err != nil {
		return switchertest.Rig{}, err
	}
	stall := tcp.NewStaller(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return switchertest.Rig{}, err
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })

	site := &switchertest.Site{Front: "http://" + l.Addr().String(), Slots: map[string]string{"blue": blue.URL, "green": green.URL}}
	rig := site.Rig()
	rig.Switcher, rig.Blue, rig.Green, rig.Stall = s, plain("blue"), plain("green"), stall
	if err := s.Activate(context.Background(), plain("green")); err != nil { // so that both have a generation
		return rig, err
	}
	rig.Disturb = func(_ context.Context, slot string) error {
		tcp.Disturb(s, slot)
		return nil
	}
	closeSite := rig.Close
	rig.Close = func() error {
		err := multi.Join(closeSite(), s.Close())
		serving.Wait()
		blue.CloseClientConnections()
		green.CloseClientConnections()
		blue.Close()
		green.Close()
		return err
	}
	return rig, nil
}
