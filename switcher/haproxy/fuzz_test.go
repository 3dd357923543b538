package haproxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/haproxy"
)

func FuzzProcesses(f *testing.F) {
	for _, name := range []string{"show_proc.txt", "show_proc_after_failed_reload.txt", "show_proc_old_workers.txt", "show_proc_3.0.txt", "madeup_show_proc_2.2.txt"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		pids, old, failed, err := haproxy.ParseProcesses(text)
		if err != nil {
			assert.ErrorIs(t, err, haproxy.ErrBadAnswer)
			return
		}
		assert.Len(t, old, len(pids))
		assert.GreaterOrEqual(t, failed, 0)
		for _, pid := range pids {
			assert.Positive(t, pid)
		}
	})
}

func FuzzStats(f *testing.F) {
	f.Add(golden(f, "show_stat_one_inflight.csv"), "be_a")
	f.Add(golden(f, "show_stat_3.0.csv"), "be")
	f.Add("# pxname,svname,qcur,scur,status,\nbe,\"a,\"\"b\"\"\",1,2,UP,\n", "be")
	f.Fuzz(func(t *testing.T, text, backend string) {
		rows, err := haproxy.ParseStats(text, backend)
		if err != nil {
			assert.ErrorIs(t, err, haproxy.ErrBadAnswer)
			return
		}
		for _, r := range rows {
			assert.True(t, r.Current >= 0 && r.Queued >= 0)
		}
	})
}

func FuzzStates(f *testing.F) {
	f.Add(golden(f, "show_servers_state.txt"), "be_mix", "a")
	f.Add(golden(f, "show_servers_state_3.0.txt"), "be", "b")
	f.Fuzz(func(t *testing.T, text, backend, server string) {
		before, _, err := haproxy.ParseStates(text, backend, nil)
		if err != nil {
			assert.ErrorIs(t, err, haproxy.ErrBadAnswer)
			return
		}
		after, written, err := haproxy.ParseStates(text, backend, map[string]string{server: "drain"})
		assert.NoError(t, err)
		assert.Len(t, after, len(before))
		if _, ok := before[server]; ok {
			assert.True(t, after[server].Drain)
		}
		again, _, err := haproxy.ParseStates(written, backend, nil)
		assert.NoError(t, err, "what is written can be read")
		assert.Equal(t, after, again)
	})
}

func FuzzSessions(f *testing.F) {
	f.Add(golden(f, "show_sess_all.txt"))
	f.Add(golden(f, "show_sess_all_3.0.txt"))
	f.Fuzz(func(t *testing.T, text string) {
		list, err := haproxy.ParseSessions(text, time.Date(2026, 11, 23, 1, 26, 42, 0, time.UTC))
		if err != nil {
			assert.ErrorIs(t, err, haproxy.ErrBadAnswer)
			return
		}
		for _, s := range list {
			assert.True(t, s.Age >= 0 && s.In >= 0 && s.Out >= 0)
		}
	})
}

func FuzzMapValue(f *testing.F) {
	f.Add("type=str, case=sensitive, found=yes, idx=tree, key=\"mysite\", value=\"be_a\", type=\"str\"\n")
	f.Add("type=str, case=sensitive, found=no\n")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := haproxy.ParseMapValue(text)
		if err == nil {
			assert.Contains(t, text, "value=\""+v+"\"")
		}
	})
}

func FuzzEditMap(f *testing.F) {
	f.Add("# who serves\nother be_other\nmysite\tbe_blue \r\n", "mysite", "be_green")
	f.Fuzz(func(t *testing.T, file, key, value string) {
		if strings.ContainsAny(key+value, " \t\r\n\v\f") || key == "" || value == "" || strings.HasPrefix(key, "#") {
			return // NewMap refuses those
		}
		edited, err := haproxy.EditMap(file, key, value)
		if err != nil {
			assert.ErrorIs(t, err, haproxy.ErrNoKey)
			return
		}
		got, ok := haproxy.MapValue(edited, key)
		assert.True(t, ok)
		assert.Equal(t, value, got)
		assert.Equal(t, strings.Count(file, "\n"), strings.Count(edited, "\n"))
		again, err := haproxy.EditMap(edited, key, value)
		assert.NoError(t, err)
		assert.Equal(t, edited, again)
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add("\n")
	f.Add("No such server.\n\n")
	f.Fuzz(func(t *testing.T, answer string) {
		text, whole := haproxy.Complete(answer)
		if whole && answer != "\n" {
			assert.Equal(t, answer, text+"\n\n")
		}
		if err := haproxy.Refusal(1, "show info", answer); err != nil {
			assert.ErrorIs(t, err, haproxy.ErrRefused)
			assert.NotContains(t, err.Error(), "\n")
		}
	})
}

func FuzzWaited(f *testing.F) {
	for _, answer := range []string{"Done.\n\n", "Wait delay expired.\n\n", "Failed.\n\n", "Interrupted.\n\n", "Invalid duration.\n\n", ""} {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		if haproxy.ParseWaited(answer) == "over" {
			assert.True(t, strings.HasPrefix(strings.TrimSpace(answer), "Done"))
		}
	})
}

// Lines of which only some matter.
func FuzzLines(f *testing.F) {
	f.Add("Name: HAProxy\nCurrConns: 12\n", "CurrConns")
	f.Add("# table: be_mix, type: ip, size:1024, used:0\n", "be_mix")
	f.Add("5d6h", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		if n, err := haproxy.ParseInfo(text, name); err != nil {
			assert.ErrorIs(t, err, haproxy.ErrBadAnswer)
		} else {
			assert.GreaterOrEqual(t, n, 0)
		}
		if haproxy.HasTable(text, name) {
			assert.Contains(t, text, name)
		}
		assert.GreaterOrEqual(t, haproxy.ParseAge(text), time.Duration(0))
	})
}
