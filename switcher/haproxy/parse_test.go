package haproxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/haproxy"
)

// The files in testdata were taken from HAProxy 2.6.12 of Debian 12, those with 3.0 in their name from 3.0.11 of Debian 13; those that begin with
// madeup were not.
func golden(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(b)
}

func TestParseProcesses(t *testing.T) {
	pids, old, failed, err := haproxy.ParseProcesses(golden(t, "show_proc.txt"))
	require.NoError(t, err)
	assert.Equal(t, []int{24497}, pids)
	assert.Equal(t, []bool{false}, old)
	assert.Zero(t, failed)

	pids, old, failed, err = haproxy.ParseProcesses(golden(t, "show_proc_after_failed_reload.txt"))
	require.NoError(t, err)
	assert.Equal(t, []int{23469}, pids)
	assert.Equal(t, []bool{false}, old)
	assert.Equal(t, 1, failed)

	pids, old, _, err = haproxy.ParseProcesses(golden(t, "show_proc_old_workers.txt"))
	require.NoError(t, err)
	assert.Len(t, pids, 3)
	assert.Equal(t, []bool{false, true, true}, old)

	// Up to 2.4 there is one column more.
	pids, old, _, err = haproxy.ParseProcesses(golden(t, "madeup_show_proc_2.2.txt"))
	require.NoError(t, err)
	assert.Equal(t, []int{1271, 1163}, pids)
	assert.Equal(t, []bool{false, true}, old)

	for _, bad := range []string{"", "\n", "12 worker 0\n", "#<PID> <type> <reloads>\nx worker 0\n", "#<PID> <type> <reloads>\n12 worker x\n",
		"#<PID> <type> <reloads>\n12 master 0 [failed: x]\n", "#<PID> <type> <reloads>\n-1 worker 0\n"} {
		_, _, _, err := haproxy.ParseProcesses(bad)
		assert.ErrorIs(t, err, haproxy.ErrBadAnswer, "%q", bad)
	}
}

func TestParseStats(t *testing.T) {
	rows, err := haproxy.ParseStats(golden(t, "show_stat_one_inflight.csv"), "be_a")
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, haproxy.Stat{Name: "a1", Current: 1, Status: "UP", Mode: "http"}, rows[0])
	assert.Equal(t, haproxy.Stat{Name: "BACKEND", Current: 1, Status: "UP", Mode: "http", Algo: "roundrobin"}, rows[1])
	rows, err = haproxy.ParseStats(golden(t, "show_stat_one_inflight.csv"), "be_mix")
	require.NoError(t, err)
	assert.Equal(t, "DRAIN", rows[1].Status)
	rows, err = haproxy.ParseStats(golden(t, "show_stat_one_inflight.csv"), "be_cookie")
	require.NoError(t, err)
	assert.Equal(t, "A", rows[0].Cookie)
	rows, err = haproxy.ParseStats("# pxname,svname,qcur,scur,status,\nbe,\"a,\"\"b\"\"\",1,2,UP,\n", "be")
	require.NoError(t, err)
	assert.Equal(t, []haproxy.Stat{{Name: `a,"b"`, Queued: 1, Current: 2, Status: "UP"}}, rows)
	for _, bad := range []string{"", "be,a,1\n", "# pxname,svname\nbe,a\n", "# pxname,svname,qcur,scur,status,\nbe,a,,x,UP,\n", "# pxname,svname,qcur,scur,status,\nbe,\"a,0,0,UP,\n"} {
		_, err := haproxy.ParseStats(bad, "be")
		assert.ErrorIs(t, err, haproxy.ErrBadAnswer, "%q", bad)
	}
}

func TestParseStates(t *testing.T) {
	text := golden(t, "show_servers_state.txt")
	states, written, err := haproxy.ParseStates(text, "be_mix", nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]haproxy.ServerState{
		"a": {On: true, Up: true, Weight: 37, Config: 100},
		"b": {Drain: true, Up: true, Weight: 100, Config: 100},
	}, states)
	text = strings.TrimSuffix(text, "\n") // the empty line at the end of each answer
	assert.Equal(t, text, written, "what is not changed is written as it was read")

	states, written, err = haproxy.ParseStates(text, "be_mix", map[string]string{"a": "maint", "b": "ready"})
	require.NoError(t, err)
	assert.True(t, states["b"].On)
	assert.True(t, states["a"].Maint)
	old, changed := strings.Split(text, "\n"), 0
	for i, line := range strings.Split(written, "\n") {
		if line != old[i] {
			changed++
			assert.Contains(t, line, " be_mix ")
		}
	}
	assert.Equal(t, 2, changed)

	states, _, err = haproxy.ParseStates(text, "be_agent", nil)
	require.NoError(t, err)
	assert.True(t, states["a"].Agent)
	for _, bad := range []string{"", "2\n# be_name\n", "1\nrow\n", "1\n# be_name srv_name\n", strings.Replace(text, "be_a 1 a1 127.0.0.1 2 0", "be_a 1 a1 127.0.0.1 2 x", 1)} {
		_, _, err := haproxy.ParseStates(bad, "be_mix", nil)
		assert.ErrorIs(t, err, haproxy.ErrBadAnswer, "%.40q", bad)
	}
}

func TestParseSessions(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 26, 42, 501478000, time.FixedZone("elsewhere", 7200)) // HAProxy's clock is in UTC
	list, err := haproxy.ParseSessions(golden(t, "show_sess_all.txt"), now)
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, haproxy.Session{ID: "0x55935366ee50", Source: "127.0.0.1:47146", Backend: "be_b", Server: "b1", Method: "POST", In: 102, Age: 2 * time.Second}, list[0])
	assert.Equal(t, haproxy.Session{ID: "0x55935375f520", Source: "127.0.0.1:47144", Backend: "be_b", Server: "b1", Method: "GET", Upgraded: true, In: 171, Out: 152,
		Age: 2*time.Second + 622*time.Microsecond}, list[1])
	assert.Equal(t, haproxy.Session{ID: "0x5593537904e0", Source: "unix:1", In: 14, Out: 3058, Age: 974671 * time.Microsecond}, list[2])
	for _, bad := range []string{"flags=0\n", "0x12\n", "0x12: [yesterday] id=1\n"} {
		_, err := haproxy.ParseSessions(bad, now)
		assert.ErrorIs(t, err, haproxy.ErrBadAnswer, "%q", bad)
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"0s": 0, "59s": 59 * time.Second, "1m2s": 62 * time.Second, "3h4m": 184 * time.Minute, "5d6h": 126 * time.Hour,
		"2d": 48 * time.Hour, "": 0, "x": 0, "-3s": 0, "-1d2h": 0} {
		assert.Equal(t, want, haproxy.ParseAge(text), "%q", text)
	}
}

func TestParseMapValue(t *testing.T) {
	v, err := haproxy.ParseMapValue("type=str, case=sensitive, found=yes, idx=tree, key=\"mysite\", value=\"be_a\", type=\"str\"\n")
	require.NoError(t, err)
	assert.Equal(t, "be_a", v)
	_, err = haproxy.ParseMapValue("type=str, case=sensitive, found=no\n")
	assert.ErrorIs(t, err, haproxy.ErrNoKey)
	for _, bad := range []string{"", "be_a", "type=str, found=yes", "type=str, found=yes, value=\"be_a", "type=str, value=\"be_a\"",
		"type=str, found=yes, value=\"a\"\ntype=sub, found=yes, value=\"b\"\n"} {
		_, err := haproxy.ParseMapValue(bad)
		assert.ErrorIs(t, err, haproxy.ErrBadAnswer, "%q", bad)
	}
}

func TestEditMap(t *testing.T) {
	const file = "# mysite be_blue\n\n  other   be_other \r\nmysite\tbe_blue  \nmysitex be_blue\nlast be_last"
	got, err := haproxy.EditMap(file, "mysite", "be_green")
	require.NoError(t, err)
	assert.Equal(t, "# mysite be_blue\n\n  other   be_other \r\nmysite\tbe_green  \nmysitex be_blue\nlast be_last", got)
	got, err = haproxy.EditMap(file, "last", "x")
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSuffix(file, "be_last")+"x", got)
	got, err = haproxy.EditMap("bare\nk  v w\n", "bare", "x")
	require.NoError(t, err)
	assert.Equal(t, "bare x\nk  v w\n", got)
	got, err = haproxy.EditMap("k  v w\n", "k", "x")
	require.NoError(t, err)
	assert.Equal(t, "k  x\n", got, "a value may have blanks")
	_, err = haproxy.EditMap(file, "absent", "x")
	assert.ErrorIs(t, err, haproxy.ErrNoKey)
}

func TestPlans(t *testing.T) {
	states := map[string]haproxy.ServerState{"b1": {Config: 100}, "b2": {Config: 50}, "g1": {Config: 0}}
	for _, c := range []struct {
		parts map[string]int
		want  map[string]string
	}{
		{map[string]int{"blue": 100}, map[string]string{"b1": "ready 100", "b2": "ready 50", "g1": "drain 0"}},
		{map[string]int{"green": 100}, map[string]string{"b1": "drain 100", "b2": "drain 50", "g1": "ready 1"}},
		{map[string]int{"blue": 30, "green": 70}, map[string]string{"b1": "ready 73", "b2": "ready 37", "g1": "ready 256"}},
	} {
		assert.Equal(t, c.want, haproxy.Plan(states, map[string][]string{"blue": {"b1", "b2"}, "green": {"g1"}}, c.parts))
	}
	single := map[string][]string{"blue": {"b1"}, "green": {"g1"}}
	assert.Equal(t, map[string]string{"b1": "ready 95", "g1": "ready 5"}, haproxy.Plan(states, single, map[string]int{"blue": 95, "green": 5}),
		"a slot of one server has its part as weight")
}

func TestShares(t *testing.T) {
	slots := map[string][]string{"a": {"a"}, "b": {"b"}, "c": {"c"}}
	on := func(weight int) haproxy.ServerState { return haproxy.ServerState{On: true, Up: true, Weight: weight} }
	down := haproxy.ServerState{On: true, Weight: 10}
	for name, c := range map[string]struct {
		a, b, c haproxy.ServerState
		want    map[string]int
	}{
		"thirds":                 {on(1), on(1), on(1), map[string]int{"a": 34, "b": 33, "c": 33}},
		"a trace":                {on(256), on(1), on(256), map[string]int{"a": 50, "b": 1, "c": 49}},
		"weight 0 is off":        {on(0), on(7), haproxy.ServerState{Drain: true, Up: true, Weight: 9}, map[string]int{"b": 100}},
		"down gets nothing":      {down, on(1), haproxy.ServerState{Maint: true}, map[string]int{"b": 100}},
		"all that is on is down": {down, haproxy.ServerState{Drain: true, Up: true, Weight: 9}, haproxy.ServerState{Maint: true}, map[string]int{"a": 100}},
		"none":                   {haproxy.ServerState{Maint: true}, haproxy.ServerState{Drain: true, Weight: 1}, on(0), map[string]int{}},
	} {
		assert.Equal(t, c.want, haproxy.Shares(map[string]haproxy.ServerState{"a": c.a, "b": c.b, "c": c.c}, slots), name)
	}
}

func TestHasTable(t *testing.T) {
	const text = "# table: be_mix, type: ip, size:1024, used:0\n# table: be_mixed, type: ip, size:1024, used:0\n"
	assert.True(t, haproxy.HasTable(text, "be_mix"))
	assert.False(t, haproxy.HasTable(text, "be"))
	assert.False(t, haproxy.HasTable("", "be"))
}

// What a newer HAProxy says is read as well.
func TestParseWhat30Says(t *testing.T) {
	pids, old, failed, err := haproxy.ParseProcesses(golden(t, "show_proc_3.0.txt"))
	require.NoError(t, err)
	assert.Equal(t, []int{31491, 31242}, pids)
	assert.Equal(t, []bool{false, true}, old)
	assert.Zero(t, failed)

	rows, err := haproxy.ParseStats(golden(t, "show_stat_3.0.csv"), "be")
	require.NoError(t, err)
	assert.Equal(t, []haproxy.Stat{{Name: "a", Status: "no check", Mode: "http"}, {Name: "b", Status: "no check", Mode: "http"},
		{Name: "BACKEND", Status: "UP", Mode: "http", Algo: "roundrobin"}}, rows)

	states, _, err := haproxy.ParseStates(golden(t, "show_servers_state_3.0.txt"), "be", nil)
	require.NoError(t, err)
	on := haproxy.ServerState{On: true, Up: true, Weight: 1, Config: 1}
	assert.Equal(t, map[string]haproxy.ServerState{"a": on, "b": on}, states)

	list, err := haproxy.ParseSessions(golden(t, "show_sess_all_3.0.txt"), time.Date(2026, 11, 23, 3, 16, 20, 371309000, time.UTC))
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, haproxy.Session{ID: "0x7fa812c7c000", Source: "127.0.0.1:50216", Backend: "be", Server: "a", Method: "GET", In: 89, Age: 2 * time.Second}, list[0])
	assert.Equal(t, "unix:2", list[1].Source)
	for answer, want := range map[string]string{"Done.\n\n": "over", "Wait delay expired.\n\n": "expired", "Failed.\n\n": "not now", "Interrupted.\n\n": "never"} {
		assert.Equal(t, want, haproxy.ParseWaited(answer), answer)
	}
}
