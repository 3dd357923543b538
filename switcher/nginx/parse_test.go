package nginx

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func example() include {
	return include{name: "mysite", gen: 7, weights: map[string]int{"blue": 70, "green": 30}, key: "$request_id", keepalive: 8,
		slots: map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"},
		earlier: []generation{{worker: worker{pid: 22644, start: 1234567}, slots: []string{"blue", "green"}},
			{worker: worker{pid: 22645, start: 1234568}}}}
}

func TestIncludeIsReadAsItWasWritten(t *testing.T) {
	in := example()
	f, err := parseInclude("mysite", in.render())
	require.NoError(t, err)
	assert.Equal(t, found{in: in, mark: in.mark()}, f)
	in.weights, in.earlier[0].slots = map[string]int{"blue": 0, "green": 0}, []string{}
	f, err = parseInclude("mysite", in.render())
	require.NoError(t, err)
	assert.Equal(t, found{in: in, mark: in.mark()}, f)
	_, err = parseInclude("other", in.render())
	assert.ErrorContains(t, err, `no mark of site "other"`)
}

func TestIncludeText(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "include.conf"))
	require.NoError(t, err)
	assert.Equal(t, string(want), example().render())
}

func TestParseConf(t *testing.T) {
	all, err := parseConf("f", "a 1 'b c' \"d\\\"e\" # no\n;\nhttp { server { x ${y}z; } }\nr \"^~\\.php$\"; access_by_lua_block { if a { b } } e '';")
	require.NoError(t, err)
	require.Len(t, all, 5)
	assert.Equal(t, []string{"1", "b c", `d"e`}, all[0].args)
	assert.Equal(t, []string{"${y}z"}, all[1].block[0].block[0].args)
	assert.Equal(t, "f:3", all[1].where())
	assert.Equal(t, []string{`^~\.php$`}, all[2].args)
	assert.True(t, all[3].braces)
	assert.Equal(t, []string{""}, all[4].args)
	for _, bad := range []string{"a", "a {", "}", "a { b }", ";", `a "b`, "{ }", "x_by_lua_block { {"} {
		_, err := parseConf("f", bad)
		assert.Error(t, err, bad)
	}
}

func TestDumpIsPutTogether(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "dump-1.22.1.txt"))
	require.NoError(t, err)
	all := parseDump(string(text))
	require.Len(t, all, 2)
	tree, err := expand(all)
	require.NoError(t, err)
	var in []string
	walk(tree, func(d directive, within []directive) {
		if d.name == "split_clients" {
			in = append(in, within[0].name, d.file)
		}
	})
	assert.Equal(t, []string{"http", "/etc/nginx/site.conf"}, in)
	_, err = expand(nil)
	assert.Error(t, err)
	_, err = expand([]section{{"/a", "include /a;"}})
	assert.ErrorContains(t, err, "too deep")
}

// The answers are those of nginx 1.22.1 of Debian 12.
func TestWhatNginxSays(t *testing.T) {
	v, err := parseVersion("nginx version: nginx/1.22.1\n")
	require.NoError(t, err)
	assert.Equal(t, "1.22.1", v.String())
	assert.True(t, Version{1, 10, 3}.before(oldest) && !v.before(oldest))
	_, err = parseVersion("sh: nginx: not found")
	assert.Error(t, err)

	assert.Equal(t, []said{{"emerg", 0, `unknown directive "x" in /n.conf:3`}},
		parseSaid("nginx: [emerg] unknown directive \"x\" in /n.conf:3\nnginx: configuration file /n.conf test failed\n"))

	text, err := os.ReadFile(filepath.Join("testdata", "error-1.22.1.log"))
	require.NoError(t, err)
	assert.Equal(t, `unexpected end of file, expecting ";" or "}" in /run/nginx/inc/upstream.conf:2`, refusalIn(string(text), 22643))
	assert.Empty(t, refusalIn(string(text), 1), "another master's")
	bind := "2026/11/22 19:08:48 [emerg] 22643#22643: bind() to 127.0.0.1:18081 failed (98: Address already in use)\n"
	assert.Empty(t, refusalIn(bind, 22643), "it goes on trying")
	assert.Equal(t, "bind() to 127.0.0.1:18081 failed (98: Address already in use)",
		refusalIn(bind+"2026/11/22 19:08:48 [emerg] 22643#22643: still could not bind()\n", 22643))
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Duration{"90": 90 * time.Second, "1m30s": 90 * time.Second, "500ms": time.Second / 2, "2h": 2 * time.Hour, "1d": 24 * time.Hour,
		"": 0, "soon": 0, "1x": 0, "999999999y": 0} {
		assert.Equal(t, want, parseTime(text), text)
	}
}

func TestParseTable(t *testing.T) {
	if !littleEndian {
		t.Skip("the lines are of a little-endian machine")
	}
	text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n" +
		"   1: 00000000000000000000000001000000:C350 0000000000000000FFFF00000100007F:1389 01 00000000:00000000 00:00000000 00000000    33        0 4712 1\n"
	all := parseTable(text)
	require.Len(t, all, 2)
	assert.Equal(t, "127.0.0.1:8080", all[0].local.String())
	assert.Equal(t, stateListen, all[0].state)
	assert.Equal(t, "[::1]:50000", all[1].local.String())
	assert.Equal(t, "127.0.0.1:5001", all[1].remote.String())
	assert.True(t, all[1].open() && all[1].user == 33 && all[1].inode == 4712)
}

func TestParseStat(t *testing.T) {
	p, err := parseStat("22644 (ngi) x) S 22643 1 1 0 -1 4194624 0 0 0 0 0 0 0 0 20 0 1 0 1234567 10 20\n")
	require.NoError(t, err)
	assert.Equal(t, process{pid: 22644, parent: 22643, start: 1234567}, p)
	_, err = parseStat("nonsense")
	assert.Error(t, err)
}

func TestCountIn(t *testing.T) {
	sw, err := New(Config{Name: "s", Slots: map[string]string{"blue": "127.0.0.1:1", "green": "127.0.0.1:2"}, Include: includePath(t), Door: "http://h/"})
	require.NoError(t, err)
	to := func(slots ...string) held {
		h := held{clients: 3}
		for _, s := range slots {
			h.upstreams = append(h.upstreams, socket{remote: sw.peers[s]})
		}
		return h
	}
	count := func(h held, old bool) [2]int {
		there, coming := sw.countIn(h, "blue", old)
		return [2]int{there, coming}
	}
	assert.Equal(t, [2]int{1, 0}, count(to("blue", "green"), false))
	assert.Equal(t, [2]int{1, 1}, count(to("blue", "green"), true), "the third client's is still to come")
	assert.Equal(t, [2]int{0, 0}, count(to("green", "green", "green"), true))
	sw.notes.learn([]directive{{name: "auth_request", args: []string{"/a"}}})
	assert.Equal(t, [2]int{0, 1}, count(to("green", "green", "green"), true), "a client may have two of them")
	assert.Equal(t, [2]int{0, 0}, count(held{}, true))
	sw.notes.learn([]directive{{name: "listen", args: []string{"443", "quic"}}})
	assert.Equal(t, [2]int{0, 1}, count(held{}, true), "a client may not be seen")
}

func TestShared(t *testing.T) {
	assert.Equal(t, map[string]int{"a": 0, "b": 75, "c": 25}, without(map[string]int{"a": 60, "b": 30, "c": 10}, "a"))
	assert.Equal(t, map[string]int{"a": 0, "b": 34, "c": 33, "d": 33}, without(map[string]int{"a": 97, "b": 1, "c": 1, "d": 1}, "a"))
	assert.Equal(t, map[string]int{"a": 0}, without(map[string]int{"a": 100}, "a"))
	assert.Equal(t, map[string]int{"a": 0, "b": 100}, without(map[string]int{"b": 100}, "a"))
}

// includePath is the path of a file of a site.
func includePath(t testing.TB) string { return filepath.Join(t.TempDir(), "s.conf") }
