package haproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// findings are the texts of a Check, errors and warnings apart.
func findings(err error) (mistakes, warnings []string) {
	for _, e := range multi.All(err) {
		if w, ok := errors.AsType[*abswap.Warning](e); ok {
			warnings = append(warnings, w.Error())
			continue
		}
		mistakes = append(mistakes, e.Error())
	}
	return mistakes, warnings
}

// among asserts that one text of the list has all of these in it.
func among(t *testing.T, list []string, parts ...string) {
	t.Helper()
	for _, text := range list {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(text, p)
		}
		if all {
			return
		}
	}
	assert.Fail(t, "not found", "%q in %q", parts, list)
}

func begin(t *testing.T, config string) *instance {
	t.Helper()
	needHAProxy(t)
	t.Parallel()
	in, err := start(t.Context(), config, true)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.close()) })
	return in
}

func request() abswap.CheckRequest {
	blue, green := slots()
	return abswap.CheckRequest{Slots: []abswap.Slot{blue, green}}
}

func TestCheckOfAMap(t *testing.T) {
	in := begin(t, mapConfig)
	cfg := haproxy.MapConfig{Runtime: in.runtime(true), File: in.path("slots.map"), Key: "mysite", Closed: "be_closed",
		Backends: map[string]string{"blue": "be_blue", "green": "be_green"}}
	sw, err := haproxy.NewMap(cfg)
	require.NoError(t, err)
	assert.NoError(t, sw.Check(t.Context(), request()), "nothing to find")
	require.NoError(t, os.Chmod(in.path("master.sock"), 0o755))
	assert.NoError(t, sw.Check(t.Context(), request()), "as Debian has it: nobody else may write")
	req := request()
	req.Steps = []int{10, 50}
	err = sw.Check(t.Context(), req)
	assert.ErrorIs(t, err, errors.ErrUnsupported, "a map has no weights")
	mistakes, _ := findings(err)
	among(t, mistakes, "steps [10 50]", "ServerSwitcher can weigh")
	assert.Len(t, mistakes, 1)
	_, weighs := abswap.As[abswap.WeightedSwitcher](sw)
	assert.False(t, weighs)
	assert.Equal(t, abswap.Traits{}, sw.Traits())
	blue, green := slots()
	err = (&abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{blue, green}, Steps: []int{10}}).Check(t.Context())
	assert.ErrorIs(t, err, errors.ErrUnsupported, "and a Swapper says so before anything moves")

	require.NoError(t, in.silently("set map "+in.path("slots.map")+" mysite be_green"))
	mistakes, warnings := findings(sw.Check(t.Context(), request()))
	assert.Empty(t, mistakes)
	among(t, warnings, "be_blue", "be_green", "a reload would move the traffic")

	cfg.Backends = map[string]string{"blue": "be_blue", "green": "be_gren"}
	cfg.Closed, cfg.TCP = "", true
	wrong, err := haproxy.NewMap(cfg)
	require.NoError(t, err)
	req = request()
	req.Drain.AtDeadline = abswap.HandOver
	err = wrong.Check(t.Context(), req)
	mistakes, warnings = findings(err)
	among(t, mistakes, `"show stat be_gren`, "No such proxy")
	among(t, mistakes, `leads to "be_green"`, "none of the slots")
	among(t, mistakes, "mode http", "says tcp")
	among(t, warnings, "HandOver")
	assert.ErrorIs(t, err, haproxy.ErrNoBackend)
	assert.ErrorIs(t, wrong.Activate(t.Context(), green), haproxy.ErrNoBackend)
	assert.Contains(t, read(t, in.path("slots.map")), "mysite be_blue", "nothing has changed")

	cfg.Key, cfg.File = "absent", in.path("absent.map")
	wrong, err = haproxy.NewMap(cfg)
	require.NoError(t, err)
	err = wrong.Check(t.Context(), request())
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorIs(t, err, haproxy.ErrNoMap)

	cfg.Runtime = haproxy.Runtime{Master: in.path("nobody.sock")}
	wrong, err = haproxy.NewMap(cfg)
	require.NoError(t, err)
	err = wrong.Check(t.Context(), request())
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "not with -S "+in.path("nobody.sock")+" on its command line")
}

// A master process that reloads refuses connections for a moment, which is no finding. One that is not there is, and soon.
func TestCheckWhileTheMasterReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials, away := 0, error(syscall.ECONNREFUSED)
		to := "be_blue"
		rest, file := calm(&to), filepath.Join(t.TempDir(), "slots.map")
		write(t, file, "mysite be_blue\n")
		rt := scripted(t, rest)
		answer := rt.Dial
		rt.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials++; dials <= 4 || away != error(syscall.ECONNREFUSED) {
				return nil, &net.OpError{Op: "dial", Net: network, Err: away}
			}
			conn, err := answer(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return behindMaster{conn}, nil
		}
		rt.Master, rt.Stats, rt.Patience = "scripted:1", "", 0
		sw, began := mapOn(t, rt, file), time.Now()
		mistakes, _ := findings(sw.Check(t.Context(), request()))
		assert.Empty(t, mistakes)
		assert.Less(t, time.Since(began), 5*time.Second)

		for _, err := range []error{os.ErrNotExist, os.ErrPermission} {
			away, began = err, time.Now()
			assert.ErrorIs(t, sw.Check(t.Context(), request()), err)
			assert.Zero(t, time.Since(began), "it is told at once")
		}
		away, dials, began = syscall.EPIPE, 0, time.Now()
		assert.ErrorIs(t, sw.Check(t.Context(), request()), syscall.EPIPE, "what went wrong is told")
		assert.Equal(t, 5*time.Second, time.Since(began))
	})
}

// behindMaster makes a scripted process a worker behind a master.
type behindMaster struct{ net.Conn }

func (c behindMaster) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(bytes.TrimPrefix(p, []byte("@!7 ")))
	return min(len(p), n+len("@!7 ")), err
}

func TestCheckSaysThatASocketOfLessThanAdminIsNotEnough(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	in, err := start(t.Context(), strings.Replace(mapConfig, "global\n", "global\n    stats socket DIR/operator.sock mode 666 level operator\n", 1), false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.close()) })
	sw, err := haproxy.NewMap(haproxy.MapConfig{Runtime: haproxy.Runtime{Stats: in.path("operator.sock")}, File: in.path("slots.map"), Key: "mysite",
		Backends: map[string]string{"blue": "be_blue", "green": "be_green"}})
	require.NoError(t, err)
	err = sw.Check(t.Context(), request())
	assert.ErrorIs(t, err, haproxy.ErrDenied)
	_, warnings := findings(err)
	among(t, warnings, "operator.sock", "mode 666")
}

func TestCheckOfServers(t *testing.T) {
	config := strings.Replace(serversConfig, "    server green GREEN weight 50\n", "    balance static-rr\n    stick-table type ip size 1k\n    stick on src\n"+
		"    server green GREEN weight 50 agent-check agent-port 1\n    server stray BLUE\n    server spare BLUE backup\n", 1)
	in := begin(t, config)
	cfg := haproxy.ServersConfig{Runtime: in.runtime(true), Backend: "be_site", Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}},
		StateFile: in.path("no/such/folder/state"), KeepSessions: true}
	sw, err := haproxy.NewServers(cfg)
	require.NoError(t, err)
	req := request()
	req.Steps = []int{10}
	err = sw.Check(t.Context(), req)
	mistakes, warnings := findings(err)
	among(t, mistakes, "folder of the state file")
	among(t, mistakes, "be_site/stray belongs to no slot")
	among(t, mistakes, "static-rr")
	among(t, warnings, "be_site/green has an agent check")
	among(t, warnings, "stick table", "nobody counts them")
	assert.Len(t, mistakes, 3, "the spare one is for when all others are down")
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.False(t, sw.Traits().Forgets)

	blue, green := slots()
	cfg.StateFile = ""
	sw, err = haproxy.NewServers(cfg)
	require.NoError(t, err)
	assert.True(t, sw.Traits().Forgets)
	err = sw.SetWeights(t.Context(), abswap.Weight{Slot: blue, Part: 30}, abswap.Weight{Slot: green, Part: 70})
	assert.ErrorIs(t, err, haproxy.ErrStaticBalance)

	cfg.Slots = map[string][]string{"blue": {"blue"}, "green": {"gren", "grn"}}
	wrong, err := haproxy.NewServers(cfg)
	require.NoError(t, err)
	before, err := in.states()
	require.NoError(t, err)
	err = wrong.Check(t.Context(), request())
	assert.ErrorIs(t, err, haproxy.ErrNoServer)
	mistakes, _ = findings(err)
	among(t, mistakes, `no server "gren"`)
	among(t, mistakes, `no server "grn"`)
	assert.ErrorIs(t, wrong.Activate(t.Context(), green), haproxy.ErrNoServer)
	cfg.Backend = "be_sit"
	wrong, err = haproxy.NewServers(cfg)
	require.NoError(t, err)
	assert.ErrorIs(t, wrong.Check(t.Context(), request()), haproxy.ErrNoBackend)
	assert.ErrorIs(t, wrong.Activate(t.Context(), blue), haproxy.ErrNoBackend)
	after, err := in.states()
	require.NoError(t, err)
	assert.Equal(t, before, after, "nothing has changed")
}

func TestASlotThatIsDownIsNotTurnedOn(t *testing.T) {
	config := strings.ReplaceAll(serversConfig, " weight 50\n", " weight 50 check inter 50ms fall 1 rise 1\n")
	in := begin(t, config)
	sw := serversOn(t, in.runtime(true))
	blue, green := slots()
	hasty := in.runtime(true)
	hasty.Patience = 5 * time.Second
	require.NoError(t, sw.Activate(t.Context(), blue))
	require.NoError(t, in.apps[1].Close()) // green's
	require.Eventually(t, func() bool {
		text, err := in.say("show stat be_site 4 -1")
		return err == nil && strings.Contains(text, "green,0,0,0,") && strings.Contains(text, "L4CON")
	}, 20*time.Second, 10*time.Millisecond)
	err := serversOn(t, hasty).Activate(t.Context(), green)
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	name, err := sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", name)
}

func TestSlotsOfSeveralServersKeepTheirRatio(t *testing.T) {
	config := strings.Replace(serversConfig, "    server green GREEN weight 50\n", "    server green GREEN weight 50\n    server blue2 BLUE weight 25\n", 1)
	in := begin(t, config)
	sw, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: in.runtime(true), Backend: "be_site",
		Slots: map[string][]string{"blue": {"blue", "blue2"}, "green": {"green"}}, StateFile: in.path("be_site.state")})
	require.NoError(t, err)
	blue, green := slots()
	require.NoError(t, sw.SetWeights(t.Context(), abswap.Weight{Slot: blue, Part: 90}, abswap.Weight{Slot: green, Part: 10}))
	parts, err := sw.Weights(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"blue": 90, "green": 10}, parts)
	require.NoError(t, sw.Activate(t.Context(), blue))
	for server, weight := range map[string]string{"blue": "50 (initial 50)", "blue2": "25 (initial 25)", "green": "50 (initial 50)"} {
		text, err := in.say("get weight be_site/" + server)
		require.NoError(t, err)
		assert.Equal(t, weight, text, server)
	}
	in.reloaded(t)
	name, err := sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", name, "a reload does not turn green on")
}

// TestALongUploadInAnOldWorkerCounts reloads under an upload, which then only the old worker knows of.
func TestALongUploadInAnOldWorkerCounts(t *testing.T) {
	for name, newRig := range map[string]func() (switchertest.Rig, *instance, error){
		"map":     func() (switchertest.Rig, *instance, error) { return mapRig(t.Context(), true) },
		"servers": func() (switchertest.Rig, *instance, error) { return serversRig(t.Context(), serversConfig, false) },
	} {
		t.Run(name, func(t *testing.T) {
			needHAProxy(t)
			t.Parallel()
			rig, in, err := newRig()
			require.NoError(t, err)
			defer func() { assert.NoError(t, rig.Close()) }()
			require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
			upload, err := rig.Begin(t.Context(), switchertest.KindUpload)
			require.NoError(t, err)
			defer upload.Abort()
			socket, err := rig.Begin(t.Context(), switchertest.KindUpgraded)
			require.NoError(t, err)
			defer socket.Abort()
			in.reloaded(t)
			in.reloaded(t)
			require.Eventually(t, func() bool { // the worker between, which has nothing, ends when it comes to it
				text, err := in.ask(in.path("master.sock"), "show proc")
				pids, old, _, errParse := haproxy.ParseProcesses(text)
				return err == nil && errParse == nil && slices.Equal(old, []bool{false, true}) && len(pids) == 2
			}, 20*time.Second, 5*time.Millisecond)
			require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Green))
			d := rig.Switcher.(abswap.ForcingDrainer)
			l, err := d.InFlight(t.Context(), rig.Blue)
			require.NoError(t, err)
			assert.Equal(t, abswap.Load{Requests: 1, Upgraded: 1, Evidence: abswap.EvidenceExact, Source: "haproxy counters of 2 worker(s)"}, l)
			list, err := rig.Switcher.(abswap.ListingDrainer).List(t.Context(), rig.Blue, 10)
			require.NoError(t, err)
			require.Len(t, list, 2)
			assert.Equal(t, "POST", list[0].Method)
			assert.NoError(t, upload.Step(t.Context()))
			assert.NoError(t, upload.End(t.Context()))
			assert.NoError(t, socket.Step(t.Context()))
			require.NoError(t, d.Force(t.Context(), rig.Blue, abswap.ForceCut))
			require.NoError(t, rig.Switcher.(abswap.WaitingDrainer).WaitIdle(t.Context(), rig.Blue))
			assert.Error(t, socket.Step(t.Context()), "it was cut, in the old worker")
		})
	}
}

// TestOneIdleClientOfAnOldWorker reloads beside a client that keeps its connection: one more request of it will reach the slot that was active.
func TestOneIdleClientOfAnOldWorker(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	oneIdleClient(t, serversConfig)
}

// TestOneIdleClientBesideALuaSocket is the same where the worker itself has a session to somewhere, which is no client's.
func TestOneIdleClientBesideALuaSocket(t *testing.T) {
	needHAProxy(t)
	if built, err := exec.Command("haproxy", "-vv").Output(); err != nil || !strings.Contains(string(built), "+LUA") {
		t.Skip("this haproxy has no Lua")
	}
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, silent.Close()) }()
	script := filepath.Join(t.TempDir(), "held.lua")
	host, port, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	write(t, script, fmt.Sprintf("core.register_task(function()\n  local s = core.tcp()\n  s:settimeout(120)\n  s:connect(%q, %s)\n  s:receive(\"*l\")\nend)\n",
		host, port))
	oneIdleClient(t, strings.Replace(serversConfig, "global\n", "global\n    lua-load "+script+"\n", 1))
}

func oneIdleClient(t *testing.T, config string) {
	rig, in, err := serversRig(t.Context(), config, false)
	require.NoError(t, err)
	defer func() { assert.NoError(t, rig.Close()) }()
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Blue))
	ask, done := rig.KeepAlive()
	defer done()
	slot, err := ask(t.Context())
	require.NoError(t, err)
	require.Equal(t, "blue", slot)
	in.reloaded(t)

	rt := in.runtime(true)
	rt.Patience = 500 * time.Millisecond
	impatient, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: rt, Backend: "be_site", Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}},
		StateFile: in.path("be_site.state")})
	require.NoError(t, err)
	err = impatient.Activate(t.Context(), rig.Green)
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorContains(t, err, "idle client connection")
	_, err = ask(t.Context()) // which ends the connection
	require.NoError(t, err)
	require.NoError(t, rig.Switcher.Activate(t.Context(), rig.Green))
	slot, err = ask(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", slot)
}

// TestABackendThatAnOldWorkerHasNot activates a slot whose backend came with the last reload, beside a client that keeps its connection to the worker
// before it.
func TestABackendThatAnOldWorkerHasNot(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	in, err := start(t.Context(), strings.Replace(mapConfig, "backend be_green", "backend be_later", 1), true)
	require.NoError(t, err)
	defer func() { assert.NoError(t, in.close()) }()
	config := func(rt haproxy.Runtime) haproxy.MapConfig {
		return haproxy.MapConfig{Runtime: rt, File: in.path("slots.map"), Key: "mysite", Backends: map[string]string{"blue": "be_blue", "green": "be_green"}}
	}
	rt := in.runtime(true)
	rt.Patience = 500 * time.Millisecond
	sw, err := haproxy.NewMap(config(rt))
	require.NoError(t, err)
	ask, done := in.site.Rig().KeepAlive()
	defer done()
	slot, err := ask(t.Context())
	require.NoError(t, err)
	require.Equal(t, "blue", slot)
	write(t, in.path("haproxy.cfg"), strings.Replace(read(t, in.path("haproxy.cfg")), "be_later", "be_green", 1))
	in.reloaded(t)

	_, green := slots()
	err = sw.Activate(t.Context(), green)
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorContains(t, err, "idle client connection")
	slot, err = ask(t.Context()) // the last one of the old worker, which knows blue alone
	require.NoError(t, err)
	assert.Equal(t, "blue", slot)
	rt.Patience = 2 * time.Minute
	sw, err = haproxy.NewMap(config(rt))
	require.NoError(t, err)
	require.NoError(t, sw.Activate(t.Context(), green))
	slot, err = ask(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", slot)
}
