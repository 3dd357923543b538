package main

import (
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

var full = flag.Bool("full", false, "tell the story, of three deploys, seventeen times in each mode")

func TestNothingIsLostAndNothingCommitted(t *testing.T) {
	times, linger := 1, "900ms"
	if *full {
		times, linger = 17, "2400ms"
	}
	for _, mode := range []string{"classic", "outofprocess", "inprocess"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			for range times {
				var buf strings.Builder
				code := example().Run(t.Context(), []string{"-emulate", "-mode", mode, "-linger", linger}, &buf, &buf)
				out := buf.String()
				t.Log(out)
				assert.Zero(t, code)
				assert.Contains(t, out, "and 2 uploads: 0 lost, 0 late, 0 cut")
				assert.Contains(t, out, "every promise was kept")
				assert.Contains(t, out, "appcmd start site")
				for _, verb := range []string{"set", "add", "delete", "clear"} {
					assert.NotContains(t, out, "appcmd "+verb+" ", "this would be a commit")
				}
			}
		})
	}
}
