package arr_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/arr"
)

// found splits what a check finds.
func found(err error) (bad, warnings string) {
	for _, e := range multi.All(err) {
		if _, ok := errors.AsType[*abswap.Warning](e); ok {
			warnings += e.Error() + "\n"
			continue
		}
		bad += e.Error() + "\n"
	}
	return bad, warnings
}

const goodHealth = `<healthCheck url="http://` + host + `/up.html" interval="00:00:05" timeout="16:40:00" responseMatch="up" />`

func TestCheck(t *testing.T) {
	edit := func(from, to string) func(t *testing.T, b *box) {
		return func(t *testing.T, b *box) {
			require.NoError(t, b.srv.EditConfig(func(content []byte) ([]byte, error) {
				require.Contains(t, string(content), from)
				return []byte(strings.Replace(string(content), from, to, 1)), nil
			}))
			require.NoError(t, b.srv.Settle(t.Context()))
		}
	}
	stops := abswap.CheckRequest{Stops: true, Drain: abswap.DrainOptions{Timeout: time.Hour}}
	for name, c := range map[string]struct {
		s             setting
		edit          func(t *testing.T, b *box)
		req           abswap.CheckRequest
		bad, warnings []string
	}{
		"good":              {s: setting{health: goodHealth}, req: stops},
		"no health test":    {req: stops, bad: []string{"no health test"}},
		"slow health test":  {s: setting{health: strings.Replace(goodHealth, ":05", ":06", 1)}, req: stops, bad: []string{"interval of 6s"}},
		"mortal":            {s: setting{health: goodHealth, pool: `<processModel shutdownTimeLimit="01:00:00" />`}, req: stops, bad: []string{"idleTimeout 20m0s, periodicRestart.time 29h0m0s"}},
		"mortal, retained":  {s: setting{health: goodHealth, pool: `<processModel shutdownTimeLimit="01:00:00" />`}, warnings: []string{"ends its worker process", "disallowRotationOnConfigChange"}},
		"mortal, borne":     {s: setting{health: goodHealth, pool: `<processModel />`, with: func(c *arr.Config) { c.Accept.Mortal = true }}, req: stops, warnings: []string{"ends its worker process", "shutdownTimeLimit 1m30s"}},
		"by requests":       {s: setting{health: goodHealth}, edit: edit(`<periodicRestart time="00:00:00" />`, `<periodicRestart time="00:00:00" requests="5000"><schedule><add value="03:00:00" /></schedule></periodicRestart>`), req: stops, bad: []string{"periodicRestart.requests 5000", "schedule"}},
		"web garden":        {s: setting{health: goodHealth}, edit: edit(`<processModel idleTimeout="00:00:00" shut`, `<processModel maxProcesses="2" idleTimeout="00:00:00" shut`), bad: []string{"2 worker processes"}},
		"steps":             {s: setting{health: goodHealth}, req: abswap.CheckRequest{Steps: []int{5}}, bad: []string{"rule S3"}},
		"steps, no restart": {s: setting{health: goodHealth, with: func(c *arr.Config) { c.Facts.CommitRestartsMembers = arr.No }}, req: abswap.CheckRequest{Steps: []int{5}}},
		"steps, borne": {s: setting{health: goodHealth, affinity: true, with: func(c *arr.Config) {
			c.Accept.RestartsMembers, c.Facts.CommitForgetsStates = true, arr.Yes
		}}, req: abswap.CheckRequest{Steps: []int{5}}, warnings: []string{"rule S3", "rule S1", "parts of new clients"}},
		"fallback":        {s: setting{health: goodHealth, algorithm: "LeastRequests"}, warnings: []string{"falls back on WeightedRoundRobin"}},
		"offline":         {s: setting{health: goodHealth}, edit: edit(`address="mysite-green-0" enabled="true"`, `address="mysite-green-0" enabled="false"`), bad: []string{"is offline"}},
		"stranger":        {s: setting{health: goodHealth}, edit: edit(`<server address="mysite-blue-0"`, `<server address="third" /><server address="mysite-blue-0"`), bad: []string{`member "third" belongs to no slot`}},
		"farm disabled":   {s: setting{health: goodHealth}, edit: edit(`" enabled="true"><server address="mysite-blue-0"`, `" enabled="false"><server address="mysite-blue-0"`), bad: []string{"the farm is disabled"}},
		"proxy disabled":  {s: setting{health: goodHealth}, edit: edit(`<proxy enabled="true"`, `<proxy enabled="false"`), bad: []string{"forwards nothing"}},
		"no rule":         {s: setting{health: goodHealth}, edit: edit(`url="http://`+farm, `url="http://elsewhere`), bad: []string{"no rule"}},
		"feeds itself":    {s: setting{health: goodHealth}, edit: edit(`<conditions><add input="{SERVER_PORT}" pattern="80" /></conditions>`, ``), bad: []string{"feed itself"}},
		"short timeout":   {s: setting{health: goodHealth, timeout: "00:00:30"}, warnings: []string{"timeout is 30s"}},
		"buffers":         {s: setting{health: goodHealth}, edit: edit(`bufferChunkedResponses="false"`, ``), warnings: []string{"event streams"}},
		"sessions":        {s: setting{health: goodHealth, affinity: true}, warnings: []string{"all clients move"}},
		"sessions kept":   {s: setting{health: goodHealth, affinity: true, with: func(c *arr.Config) { c.KeepSessions = true }}, warnings: []string{"NewSessions"}},
		"nothing to keep": {s: setting{health: goodHealth, with: func(c *arr.Config) { c.KeepSessions, c.Memory = true, "" }}, warnings: []string{"has no effect", "Config.Memory is empty"}},
		"unknown slot":    {s: setting{health: goodHealth}, req: abswap.CheckRequest{Slots: []abswap.Slot{&abswap.HTTPSlot{ID: "red"}}}, bad: []string{"unknown slot"}},
		"on demand":       {s: setting{health: goodHealth}, edit: edit(`startMode="AlwaysRunning"`, ``), warnings: []string{"startMode OnDemand"}},
		"preload":         {s: setting{health: goodHealth}, edit: edit(`applicationPool="`+pool+`"`, `applicationPool="`+pool+`" preloadEnabled="true"`), warnings: []string{"incompatible"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parallel <- struct{}{}
			defer func() { <-parallel }()
			b := opened(t, c.s)
			if c.edit != nil {
				c.edit(t, b)
			}
			before, err := os.ReadFile(b.srv.ConfigPath())
			require.NoError(t, err)
			if c.req.Drain.Timeout == 0 {
				c.req.Drain.Timeout = time.Hour
			}
			bad, warnings := found(b.sw.Check(t.Context(), c.req))
			if len(c.bad) == 0 {
				assert.Empty(t, bad)
			}
			if len(c.bad) == 0 && len(c.warnings) == 0 {
				assert.Empty(t, warnings)
			}
			for _, want := range c.bad {
				assert.Contains(t, bad, want)
			}
			for _, want := range c.warnings {
				assert.Contains(t, warnings, want)
			}
			after, err := os.ReadFile(b.srv.ConfigPath())
			require.NoError(t, err)
			assert.Equal(t, string(before), string(after))
		})
	}
}

func TestConfigTellsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := arr.New(arr.Config{Slots: map[string][]string{"": {}, "blue": {"a", "A"}}, Patience: -1})
	for _, want := range []string{"Farm", "application pool", "no name", "no members", `member "A" is in slot "blue"`, "Patience"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = arr.New(arr.Config{})
	assert.ErrorContains(t, err, "at least two")
	_, err = arr.NewHealthFile(arr.HealthFileConfig{Slots: map[string][]string{"a": {"f"}, "b": {"f"}}, Up: "up", Down: "not up", Timeout: -1})
	for _, want := range []string{`file "f"`, "Ask is nil", "contains Up", "duration"} {
		assert.ErrorContains(t, err, want)
	}
}
