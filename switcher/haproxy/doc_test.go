package haproxy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/haproxy"
)

// blocks returns the lines that the package's documentation shows, block by block.
func blocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var all []string
	inside := false
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\r", "")) {
		code, ok := strings.CutPrefix(line, "//\t")
		switch {
		case ok && !inside:
			all = append(all, code)
		case ok:
			all[len(all)-1] += code
		case inside && line == "//\n": // an empty line within a block, or the end of it
			all[len(all)-1] += "\n"
			continue
		}
		inside = ok
	}
	return all
}

// block returns the first block that has all of these in it.
func block(t *testing.T, parts ...string) string {
	t.Helper()
	for _, b := range blocks(t) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(b, p)
		}
		if all {
			return b
		}
	}
	require.Fail(t, "the documentation has no such lines", "%q", parts)
	return ""
}

// on puts the addresses of a test in place of those of the documentation.
func on(config string) string {
	return strings.NewReplacer("/etc/haproxy/", "DIR/", "/var/lib/haproxy/", "DIR/", ":80\n", "FRONT\n", "127.0.0.1:5001", "BLUE", "127.0.0.1:5002", "GREEN").Replace(config)
}

const docTimeouts = "    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"

// docGlobal is what is there besides the lines of the documentation.
const docGlobal = "global\n    stats socket DIR/admin.sock mode 600 level admin expose-fd listeners\n"

func TestTheLinesOfTheDocumentationForAMap(t *testing.T) {
	needHAProxy(t)
	config := block(t, "frontend fe_mysite", "use_backend", "be_closed")
	in := begin(t, docGlobal+on(strings.Replace(config, "mode http\n", "mode http\n"+docTimeouts, 1)))
	write(t, in.path("slots.map"), block(t, "mysite be_blue\n"))
	in.reloaded(t)
	sw, err := haproxy.NewMap(haproxy.MapConfig{Runtime: in.runtime(true), File: in.path("slots.map"), Key: "mysite", Closed: "be_closed",
		Backends: map[string]string{"blue": "be_blue", "green": "be_green"}})
	require.NoError(t, err)
	swapsBothWays(t, in, sw)
}

func TestTheLinesOfTheDocumentationForServers(t *testing.T) {
	needHAProxy(t)
	for name, keep := range map[string]bool{"server green 127.0.0.1:5002 check disabled": false, "cookie SERVER insert": true} {
		t.Run(name, func(t *testing.T) {
			config := block(t, "backend be_mysite", name)
			in := begin(t, docGlobal+"defaults\n    mode http\n    option abortonclose\n    option idle-close-on-response\n"+docTimeouts+
				"frontend fe\n    bind FRONT\n    default_backend be_mysite\n"+on(config))
			sw, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: in.runtime(true), Backend: "be_mysite", StateFile: in.path("be_mysite.state"),
				Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}}, KeepSessions: keep})
			require.NoError(t, err)
			probe := in.site.Rig().Probe
			for range 10 {
				slot, err := probe(t.Context())
				require.NoError(t, err)
				assert.Equal(t, "blue", slot, "before the first switch")
			}
			swapsBothWays(t, in, sw)
		})
	}
}

// swapsBothWays is what somebody does who has just put the lines there.
func swapsBothWays(t *testing.T, in *instance, sw interface {
	abswap.Switcher
	abswap.Checker
}) {
	t.Helper()
	mistakes, warnings := findings(sw.Check(t.Context(), request()))
	assert.Empty(t, mistakes)
	for _, w := range warnings {
		assert.NotContains(t, w, "reload", "nothing that a reload would change")
	}
	name, err := sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", name)
	blue, green := slots()
	for _, to := range []abswap.Slot{green, blue} {
		require.NoError(t, sw.Activate(t.Context(), to))
		in.reloaded(t)
		for range 10 {
			slot, err := in.site.Rig().Probe(t.Context())
			require.NoError(t, err)
			assert.Equal(t, to.Name(), slot)
		}
	}
}
