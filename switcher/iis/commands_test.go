package iis_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
)

var update = flag.Bool("update", false, "rewrite testdata/commands")

// story collects commands for a reader, in chapters.
type story struct {
	b    *box
	text strings.Builder
}

// chapter tells what is done next; changing commands only, or all.
func (s *story) chapter(title string, all bool, f func()) {
	s.b.mu.Lock()
	s.b.commands = nil
	s.b.mu.Unlock()
	f()
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.text.WriteString("\n# " + title + "\n")
	last, times := "", 0
	for _, c := range s.b.commands {
		verb := strings.Fields(c)[1]
		if !all && verb == "list" || c == last && times > 0 && verb == "list" {
			continue
		}
		last, times = c, times+1
		s.text.WriteString(c + "\n")
	}
}

func (s *story) check(t *testing.T, name, intro string) {
	t.Helper()
	got := intro + s.text.String()
	file := filepath.Join("testdata", "commands", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got)
}

// TestCommands holds what is sent in each strategy to files that an administrator of Windows can read and judge.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		name     string
		strategy iis.Strategy
		intro    string
	}{
		{"rootswap", iis.StrategyRootSwap, "# Root swap: one public site MySite; pools MySite-blue and MySite-green; staging sites of the same names.\n" +
			"# Commands that only list are left out, but for the first chapter.\n"},
		{"sitetoggle", iis.StrategySiteToggle, "# Site toggle: sites MySite-blue-live and MySite-green-live have the same binding, one of them is started.\n" +
			"# Commands that only list are left out.\n"},
		{"bindingswap", iis.StrategyBindingSwap, "# Binding swap: sites MySite-blue and MySite-green both run, one of them has the public binding.\n" +
			"# Commands that only list are left out.\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := setting{strategy: c.strategy, mode: iis.Classic, deploys: true}.with(iis.FactsWith(""))
			b, _ := s.deploying(t)
			st := &story{b: b}
			ctx := t.Context()
			if c.name == "rootswap" {
				st.chapter("which slot is active?", true, func() {
					_, err := b.sw.Active(ctx)
					require.NoError(t, err)
				})
				st.chapter("what is blue still executing?", true, func() {
					_, err := b.drainer.InFlight(ctx, b.blue)
					require.NoError(t, err)
				})
			}
			st.chapter("stop what is left of the last release in green, which is idle", false, func() { require.NoError(t, b.green.Stop(ctx)) })
			st.chapter("install v2 into green: its folder, in one commit", false, func() {
				require.NoError(t, b.green.Install(ctx, abswap.Release{ID: "v2"}))
			})
			st.chapter("start green", false, func() { require.NoError(t, b.green.Start(ctx)) })
			require.NoError(t, await(ctx, func() error { return b.green.Ready(ctx) }))
			st.chapter("switch to green", false, func() { require.NoError(t, b.sw.Activate(ctx, b.green)) })
			st.chapter("switch to green once more: nothing to do", false, func() { require.NoError(t, b.sw.Activate(ctx, b.green)) })
			st.chapter("blue has drained: stop it", false, func() { require.NoError(t, b.blue.Stop(ctx)) })
			st.check(t, c.name, c.intro)
		})
	}
}
