package iistest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

const farmWorld = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
    <system.applicationHost>
        <applicationPools>
            <add name="Front"><processModel idleTimeout="00:00:00" shutdownTimeLimit="01:00:00" /></add>
            <add name="A" />
            <add name="B" />
        </applicationPools>
        <sites>
            <site name="Front" id="1">
                <application path="/" applicationPool="Front"><virtualDirectory path="/" physicalPath="FOLDER/broken" /></application>
                <bindings><binding protocol="http" bindingInformation="*:80:" /></bindings>
            </site>
            <site name="Blue" id="2">
                <application path="/" applicationPool="A"><virtualDirectory path="/" physicalPath="FOLDER/v1" /></application>
                <bindings><binding protocol="http" bindingInformation="*:8001:" /></bindings>
            </site>
            <site name="Green" id="3">
                <application path="/" applicationPool="B"><virtualDirectory path="/" physicalPath="FOLDER/v2" /></application>
                <bindings><binding protocol="http" bindingInformation="*:8002:" /></bindings>
            </site>
        </sites>
    </system.applicationHost>
    <webFarms>
        <webFarm name="F">
            <server address="blue.local"><applicationRequestRouting httpPort="8001" weight="30" /></server>
            <server address="green.local"><applicationRequestRouting httpPort="8002" weight="10" /></server>
            <applicationRequestRouting>
                <affinity useCookie="AFFINITY" />
                <loadBalancing algorithm="ALGORITHM" />
                HEALTH
                <protocol timeout="TIMEOUT" />
            </applicationRequestRouting>
        </webFarm>
    </webFarms>
    <system.webServer>
        <proxy enabled="true" />
        <rewrite>
            <globalRules>
                <rule name="ARR_F_loadbalance" patternSyntax="Wildcard" stopProcessing="true">
                    <match url="*" />
                    <conditions><add input="{SERVER_PORT}" pattern="80" /></conditions>
                    <action type="Rewrite" url="http://F/{R:0}" />
                </rule>
            </globalRules>
        </rewrite>
    </system.webServer>
</configuration>
`

// newFarm is a machine with the farm F in front of Blue and Green; more are old-new pairs for its configuration.
func newFarm(t *testing.T, quirks iistest.ARRQuirks, more ...string) *world {
	t.Helper()
	pairs := append(more, "AFFINITY", "false", "ALGORITHM", "WeightedRoundRobin", "HEALTH", "", "TIMEOUT", "01:00:00")
	return newWorld(t, "", func(c *iistest.Config) {
		folder := strings.Split(strings.SplitAfter(c.ApplicationHost, `physicalPath="`)[1], "/v1")[0]
		text := strings.NewReplacer(pairs...).Replace(farmWorld)
		c.ApplicationHost = strings.ReplaceAll(text, "FOLDER", folder)
		c.ARR = quirks
		require.NoError(t, os.MkdirAll(filepath.Join(folder, "broken"), 0o755))
	})
}

// member is the state of a farm's server by its address.
func (w *world) member(address string) iistest.MemberState {
	w.t.Helper()
	all, err := w.Members("F")
	require.NoError(w.t, err)
	for _, m := range all {
		if m.Address == address {
			return m
		}
	}
	require.Fail(w.t, "no such member", address)
	return iistest.MemberState{}
}

// shares counts who answers n requests.
func (w *world) shares(n int) map[string]int {
	c := w.Client()
	defer c.CloseIdleConnections()
	got := map[string]int{}
	for range n {
		a := ask(c, http.MethodGet, "http://www.example.test/", nil)
		require.NoError(w.t, a.err)
		require.Equal(w.t, http.StatusOK, a.status, a.body)
		got[a.release]++
	}
	return got
}

func TestFarmShares(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{})
	assert.Equal(t, map[string]int{"v1": 75, "v2": 25}, w.shares(100), "weights 30 and 10")
	w.must("set", "config", "-section:webFarms", "/[name='F'].[address='green.local'].applicationRequestRouting.weight:90", "/commit:apphost")
	assert.Equal(t, map[string]int{"v1": 25, "v2": 75}, w.shares(100), "weights 30 and 90")
	_, exit := w.run("set", "config", "-section:webFarms", "/[name='F'].[address='green.local'].applicationRequestRouting.weight:0", "/commit:apphost")
	assert.NotZero(t, exit, "weight 0 is not valid")
	w.must("set", "config", "-section:webFarms", "/[name='F'].[address='green.local'].enabled:false", "/commit:apphost")
	assert.Equal(t, map[string]int{"v1": 20}, w.shares(20), "offline")
	out := w.must("list", "config", "-section:webFarms", "/config:*")
	assert.Contains(t, out, `address="green.local" enabled="false"`)
	assert.Contains(t, out, `healthCheck url="" interval="00:00:30"`)
}

func TestFarmByHashIgnoresWeights(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{}, "ALGORITHM", "RequestHash")
	assert.Len(t, w.shares(40), 1, "one URL goes to one member")
}

func TestFarmStates(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{}, "AFFINITY", "true")
	sticky := func(cookies []*http.Cookie) (string, []*http.Cookie) {
		c := w.Client()
		defer c.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://www.example.test/", nil)
		require.NoError(t, err)
		for _, x := range cookies {
			r.AddCookie(x)
		}
		resp, err := c.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.Header.Get("X-Release"), resp.Cookies()
	}
	w.shares(1)
	var cookie []*http.Cookie
	for release := ""; release != "v1"; {
		release, cookie = sticky(nil)
	}
	require.NoError(t, w.SetState("F", "blue.local", "Drain"))
	for range 5 {
		release, _ := sticky(cookie)
		assert.Equal(t, "v1", release, "affinity holds while draining")
	}
	assert.Equal(t, map[string]int{"v2": 10}, w.shares(10), "new clients go elsewhere")

	held := w.hold("http://www.example.test", "graceful") // goes to v2
	require.NoError(t, w.SetState("F", "blue.local", "Start"))
	require.NoError(t, w.SetState("F", "green.local", "GracefulStop"))
	w.eventually("it is counted, and what was answered before no more", func() bool { return w.member("green.local").Current == 1 })
	assert.Equal(t, map[string]int{"v1": 10}, w.shares(10))
	w.letGo("graceful")
	assert.Equal(t, "v2", w.ended(held).release, "what runs ends by itself")
	w.eventually("count falls", func() bool { return w.member("green.local").Current == 0 })

	require.NoError(t, w.SetState("F", "blue.local", "GracefulStop"))
	require.NoError(t, w.SetState("F", "green.local", "Start"))
	release, _ := sticky(cookie)
	assert.Equal(t, "v2", release, "a graceful stop ends affinity")

	held = w.hold("http://www.example.test", "forceful")
	require.NoError(t, w.SetState("F", "green.local", "ForcefulStop"))
	assert.Error(t, w.ended(held).err, "it is cut")
	assert.Equal(t, http.StatusServiceUnavailable, w.get("http://www.example.test/").status, "all are out")
	assert.Error(t, w.SetState("F", "green.local", "Sideways"))
	assert.Error(t, w.SetState("F", "red.local", "Start"))
}

func TestFarmForgetsWithItsWorkerProcess(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{})
	w.shares(1)
	held := w.hold("http://www.example.test", "old")
	require.NoError(t, w.SetState("F", "blue.local", "GracefulStop"))
	before := w.pool("Front").Workers[0].PID
	w.must("recycle", "apppool", "Front")
	w.eventually("a new worker process serves", func() bool {
		return w.get("http://www.example.test/").status == 200 && w.member("blue.local").State == "Active"
	})
	w.eventually("the old process has the request, the new one does not know", func() bool { return w.member("blue.local").Current == 0 })
	assert.Equal(t, before, w.pool("Front").Workers[0].PID, "the old process finishes")
	w.letGo("old")
	assert.Equal(t, http.StatusOK, w.ended(held).status)
	w.eventually("it ends then", func() bool { return len(w.pool("Front").Workers) == 1 })
}

func TestFarmHealth(t *testing.T) {
	t.Parallel()
	for _, keeps := range []bool{false, true} {
		w := newFarm(t, iistest.ARRQuirks{ResetKeepsCurrent: keeps},
			"HEALTH", `<healthCheck url="http://www.example.test/up" interval="00:00:02" timeout="00:33:20" responseMatch="v" />`)
		w.shares(4)
		w.eventually("tested", func() bool { return w.member("blue.local").Healthy && w.member("green.local").Healthy })
		require.NoError(t, w.SetState("F", "green.local", "GracefulStop"))
		held := w.hold("http://www.example.test", "held")
		w.must("stop", "site", "Blue")
		w.eventually("the test sees it", func() bool { return !w.member("blue.local").Healthy })
		want := int64(0)
		if keeps {
			want = 1
		}
		w.eventually("a change of health resets the statistics", func() bool { return w.member("blue.local").Current == want })
		assert.Equal(t, http.StatusServiceUnavailable, w.get("http://www.example.test/").status)
		w.must("start", "site", "Blue")
		w.eventually("and that it is back", func() bool { return w.member("blue.local").Healthy })
		require.NoError(t, w.SetHealthy("F", "blue.local", false))
		w.eventually("a good test ends what a caller said", func() bool { return w.member("blue.local").Healthy })
		w.letGo("held")
		assert.Equal(t, http.StatusOK, w.ended(held).status)
		w.eventually("no count goes below 0", func() bool { return w.member("blue.local").Current == 0 })
	}
}

func TestFarmFirstTest(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{FirstTestLater: true}, "HEALTH", `<healthCheck url="http://www.example.test/up" interval="00:03:20" timeout="00:20:00" />`) // 2 s
	w.must("stop", "site", "Blue")
	began := time.Now()
	w.get("http://www.example.test/")
	if healthy := w.member("blue.local").Healthy; time.Since(began) < 2*time.Second {
		assert.True(t, healthy, "nobody has tested it")
	}
	w.eventually("after one interval it is tested", func() bool { return !w.member("blue.local").Healthy })
	assert.GreaterOrEqual(t, time.Since(began), 2*time.Second)
}

func TestFarmMemberDown(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{})
	w.must("stop", "site", "Blue")
	w.must("stop", "site", "Green")
	assert.Equal(t, http.StatusBadGateway, w.get("http://www.example.test/").status)
}

func TestFarmTimeoutCutsLongRequests(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{}, "TIMEOUT", "00:05:00") // 3 s
	w.shares(4)
	held := w.hold("http://www.example.test", "slow")
	assert.Equal(t, http.StatusBadGateway, w.ended(held).status)
	w.letGo("slow")
}

func TestFarmUpgrade(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{})
	w.shares(1)
	require.NoError(t, w.SetState("F", "green.local", "GracefulStop"))
	c, err := w.DialContext(t.Context(), "tcp", "www.example.test:80")
	require.NoError(t, err)
	_, err = io.WriteString(c, "GET /echo HTTP/1.1\r\nHost: www.example.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	buf := make([]byte, 4096)
	_, err = c.Read(buf)
	require.NoError(t, err)
	assert.Contains(t, string(buf), "101")
	w.eventually("counted as a socket", func() bool { m := w.member("blue.local"); return m.Sockets == 1 && m.Current == 0 })
	_, err = io.WriteString(c, "x")
	require.NoError(t, err)
	_, err = c.Read(buf[:1])
	require.NoError(t, err)
	require.NoError(t, c.Close())
	w.eventually("and no more", func() bool { return w.member("blue.local").Sockets == 0 })
}

func TestFarmCommitForgets(t *testing.T) {
	t.Parallel()
	for _, forgets := range []bool{false, true} {
		w := newFarm(t, iistest.ARRQuirks{FarmCommitForgets: forgets})
		w.shares(1)
		require.NoError(t, w.SetState("F", "green.local", "GracefulStop"))
		w.must("set", "config", "-section:webFarms", "/[name='F'].[address='blue.local'].applicationRequestRouting.weight:7", "/commit:apphost")
		assert.Equal(t, map[bool]string{false: "Inactive", true: "Active"}[forgets], w.member("green.local").State)
	}
}

func TestFarmFeedsItselfWithoutACondition(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{}, `<conditions><add input="{SERVER_PORT}" pattern="80" /></conditions>`, "")
	assert.Equal(t, http.StatusServiceUnavailable, w.get("http://www.example.test/").status)
}

func TestPowerShellStandsIn(t *testing.T) {
	t.Parallel()
	w := newFarm(t, iistest.ARRQuirks{FieldNumbers: true, NoStateNames: true})
	w.shares(1)
	path, err := w.PowerShell()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-EncodedCommand", "whatever")
	cmd.Stdin = strings.NewReader(`{"id":1,"call":"setState","farm":"F","server":"green.local","state":"GracefulStop"}` + "\n" +
		`{"id":2,"call":"read","farm":"F","pool":"Front"}` + "\n" + `{"id":3,"call":"setState","farm":"F","server":"'; exit #","state":"Start"}` + "\n")
	out, err := cmd.Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 4)
	assert.JSONEq(t, `{"ready":1}`, lines[0])
	var got struct {
		OK      bool
		Workers []struct{ PID int }
		Servers []struct {
			Address, StateName string
			State              int
			Healthy            bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(lines[2]), &got))
	require.Len(t, got.Servers, 2)
	assert.True(t, got.OK)
	assert.Equal(t, 3, got.Servers[1].State)
	assert.Empty(t, got.Servers[1].StateName)
	assert.Len(t, got.Workers, 1)
	assert.Contains(t, lines[3], `"ok":false`)
}
