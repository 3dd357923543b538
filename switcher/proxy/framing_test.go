package proxy_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/internal/framing"
)

// TestFraming sends requests that could be read in two ways, at once and byte by byte, and looks at what comes out at the application.
func TestFraming(t *testing.T) {
	for name, pace := range map[string]framing.Pace{"whole": framing.Whole, "byte by byte": framing.ByteByByte} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			up := framing.NewRecorder(l)
			t.Cleanup(up.Close)
			f := serve(t, proxy.Config{Slots: map[string]string{"blue": up.Addr()}, Active: "blue"})
			j := &framing.Judge{Address: f.addr, Upstream: up}
			for _, v := range framing.Vectors() {
				if err := j.Check(context.Background(), v, pace); err != nil {
					t.Errorf("%s: %v\n%s\n%.300q", v.Name, err, v.Why, v.Raw)
				}
			}
			require.NoError(t, j.End(context.Background()))
		})
	}
}
