package iis_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// bare is a machine as it was before anybody thought of two slots: one site with http and https in a pool of its own.
func bare(t *testing.T, mode iis.Mode) (*iistest.Server, *iis.App) {
	t.Helper()
	dir := t.TempDir()
	path := func(physical string) string {
		return filepath.Join(dir, "drives", filepath.FromSlash(strings.ReplaceAll(strings.ReplaceAll(physical, ":", ""), `\`, "/")))
	}
	at := path(`C:\inetpub\MySite.v1`)
	require.NoError(t, os.MkdirAll(at, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(at, "web.config"), []byte(webConfig(mode, true)), 0o644))
	conf := `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <!-- made by hand -->
  <system.applicationHost>
    <applicationPools>
      <add name="DefaultAppPool" managedRuntimeVersion="v4.0" />
      <add name="Shop" managedRuntimeVersion="" autoStart="true" />
    </applicationPools>
    <sites>
      ` + siteXML("Intranet", 1, true, "DefaultAppPool", `C:\inetpub\intranet`, "http/*:8080:") + `
      ` + siteXML("Shop", 2, true, "Shop", `C:\inetpub\MySite.v1`, public, "https/*:443:"+host) + `
      <applicationDefaults applicationPool="DefaultAppPool" />
    </sites>
  </system.applicationHost>
</configuration>
`
	srv, err := iistest.New(iistest.Config{Dir: dir, ApplicationHost: conf, Scale: 0.001, WASDelay: 20 * time.Second, WorkerStart: 5 * time.Second,
		AppStart: 20 * time.Second, Path: path, Host: func(folder string) (http.Handler, error) { return release(folder), nil }})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, srv.Close()) })
	client := srv.Client()
	t.Cleanup(client.CloseIdleConnections)
	return srv, &iis.App{Host: host, Mark: iis.Mark{Header: "X-Release"}, Patience: 20 * time.Second,
		Accept: iis.Accept{CutOldWork: true, Certificates: true},
		Server: &iis.Server{Runner: srv, LockFile: filepath.Join(dir, "lock"), Pause: 10 * time.Millisecond, Dial: srv.DialContext, Folder: path,
			TLS: client.Transport.(*http.Transport).TLSClientConfig}}
}

// element is configuration as it is read, not as it is written.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []element  `xml:",any"`
}

func (e element) String() string {
	slices.SortFunc(e.Attrs, func(a, b xml.Attr) int { return strings.Compare(a.Name.Local, b.Name.Local) })
	var b strings.Builder
	fmt.Fprintf(&b, "<%s", e.XMLName.Local)
	for _, a := range e.Attrs {
		fmt.Fprintf(&b, " %s=%q", a.Name.Local, a.Value)
	}
	b.WriteString(">")
	for _, c := range e.Children {
		b.WriteString(c.String())
	}
	return b.String() + "</>"
}

func configuration(t *testing.T, srv *iistest.Server) string {
	t.Helper()
	data, err := os.ReadFile(srv.ConfigPath())
	require.NoError(t, err)
	var e element
	require.NoError(t, xml.Unmarshal(data, &e))
	return e.String()
}

func TestSetupThereAndBack(t *testing.T) {
	for _, strategy := range allStrategies() {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			mode, pool := iis.Classic, ""
			if strategy == iis.StrategyRootSwap {
				mode, pool = iis.CoreInProcess, "Shop"
			}
			srv, app := bare(t, mode)
			ctx := t.Context()
			setup, err := iis.NewSetup(iis.SetupConfig{App: app, Strategy: strategy, Site: "Shop", Pool: pool, StagingApart: mode == iis.CoreInProcess,
				Staging: []string{"http/127.0.0.1:8001:", "http/127.0.0.1:8002:"}})
			require.NoError(t, err)
			before := configuration(t, srv)
			plan, err := setup.Plan(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, plan)
			for _, a := range plan {
				assert.NotContains(t, a.Command, "Intranet")
				t.Log(a.What, "--", a.Command)
			}
			assert.Equal(t, before, configuration(t, srv), "a plan changes nothing")
			undo, err := setup.UndoPlan(ctx)
			require.NoError(t, err)
			assert.Empty(t, undo, "there is nothing to take back")

			require.NoError(t, setup.Apply(ctx))
			shape := configuration(t, srv)
			plan, err = setup.Plan(ctx)
			require.NoError(t, err)
			assert.Empty(t, plan)
			require.NoError(t, setup.Apply(ctx), "it is idempotent")
			assert.Equal(t, shape, configuration(t, srv))
			assert.Contains(t, shape, `<site id="1" name="Intranet"`)

			undo, err = setup.UndoPlan(ctx)
			require.NoError(t, err)
			named := map[string]bool{}
			for _, a := range undo {
				assert.False(t, named[a.What], "%s: twice", a.What)
				named[a.What] = true
			}
			assert.NotEmpty(t, named)

			switchedThere(ctx, t, srv, app, setup, strategy)

			require.NoError(t, setup.Undo(ctx))
			require.NoError(t, setup.Undo(ctx), "so is its undo")
			require.NoError(t, srv.Settle(ctx))
			assert.Equal(t, strip(before), strip(configuration(t, srv)))
		})
	}
}

// strip removes what a switch there and back may leave: the order of a site's bindings, and an attribute that has its default.
func strip(s string) string { return strings.ReplaceAll(s, ` serverAutoStart="true"`, "") }

// switchedThere deploys a release into the shape that a setup has made, checks that undo is refused meanwhile, and goes back.
func switchedThere(ctx context.Context, t *testing.T, srv *iistest.Server, app *iis.App, setup *iis.Setup, strategy iis.Strategy) {
	t.Helper()
	configs, err := setup.SlotConfigs(ctx)
	require.NoError(t, err)
	var slots []*iis.Slot
	for _, c := range configs {
		c.Install = func(_ context.Context, r abswap.Release) (string, error) {
			dir := `C:\inetpub\MySite.` + r.ID
			at := srv.Folder(dir)
			if err := os.MkdirAll(at, 0o755); err != nil {
				return "", err
			}
			data, err := os.ReadFile(filepath.Join(srv.Folder(`C:\inetpub\MySite.v1`), "web.config"))
			if err != nil {
				return "", err
			}
			return dir, os.WriteFile(filepath.Join(at, "web.config"), data, 0o644)
		}
		c.Preload = strategy == iis.StrategyBindingSwap
		s, err := iis.NewSlot(c)
		require.NoError(t, err)
		slots = append(slots, s)
	}
	var sw switcherOf
	switch strategy {
	case iis.StrategyRootSwap:
		sw, err = iis.NewRootSwap(iis.RootSwapConfig{App: app, Site: "Shop", Slots: slots})
	case iis.StrategySiteToggle:
		sw, err = iis.NewSiteToggle(iis.SiteToggleConfig{App: app, Slots: slots})
	default:
		sw, err = iis.NewBindingSwap(iis.BindingSwapConfig{App: app, Slots: slots,
			Bindings: []iis.Binding{{Protocol: "http", Information: "*:80:" + host}, {Protocol: "https", Information: "*:443:" + host}}})
	}
	require.NoError(t, err)
	swapper := &abswap.Swapper{Switcher: sw, Drainer: &iis.Drainer{Slots: slots}, Slots: []abswap.Slot{slots[0], slots[1]}, Soak: -1, Retain: -1,
		Drain: abswap.DrainOptions{Quiet: 100 * time.Millisecond, Poll: 20 * time.Millisecond}}
	report, err := swapper.Deploy(ctx, abswap.Release{ID: "v2"})
	require.NoError(t, err)
	require.Equal(t, "green", report.Serving)
	assertServes(t, srv, "v2")
	assertBindings(t, srv)

	assert.ErrorIs(t, setup.Undo(ctx), abswap.ErrSlotOccupied, "the second slot serves")
	require.NoError(t, srv.Reboot())
	require.NoError(t, await(ctx, func() error {
		name, err := sw.Active(ctx)
		if err == nil && name != "green" {
			err = fmt.Errorf("%q is active after a reboot", name)
		}
		return err
	}))
	assertServes(t, srv, "v2")

	_, err = swapper.Swap(ctx, "blue")
	require.NoError(t, err)
	assertServes(t, srv, "v1")
}

// assertServes asks through both public bindings.
func assertServes(t *testing.T, srv *iistest.Server, id string) {
	t.Helper()
	client := srv.Client()
	defer client.CloseIdleConnections()
	for _, scheme := range []string{"http", "https"} {
		resp, err := client.Get(scheme + "://" + host + "/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, id, resp.Header.Get("X-Release"), scheme)
	}
}

// assertBindings checks that the https binding has kept its flags wherever it is.
func assertBindings(t *testing.T, srv *iistest.Server) {
	t.Helper()
	conf := configuration(t, srv)
	assert.Equal(t, strings.Count(conf, `bindingInformation="*:443:`), strings.Count(conf, `bindingInformation="*:443:`+host+`" protocol="https" sslFlags="1"`))
}

func TestSetupRefuses(t *testing.T) {
	_, err := iis.NewSetup(iis.SetupConfig{Slots: []string{"a", "A"}, Staging: []string{"x"}, ShutdownLimit: time.Millisecond})
	for _, text := range []string{"App is nil", "Strategy", "Site", "Staging", "no name of its own", "ShutdownLimit"} {
		assert.ErrorContains(t, err, text)
	}
	srv, app := bare(t, iis.Classic)
	ctx := t.Context()
	for what, args := range map[string][]string{
		"also runs":        {"set", "app", "Intranet/", "/applicationPool:Shop"},
		"without binding":  {"add", "site", "/name:Shop-green", "/bindings:http/*:9999:", `/physicalPath:C:\x`},
		"belongs to":       {"set", "site", "Intranet", "/bindings:http/127.0.0.1:8002:"},
		"cannot be copied": {"set", "apppool", "Shop", "/processModel.identityType:SpecificUser", "/processModel.userName:bob", "/processModel.password:secret"},
	} {
		data, err := os.ReadFile(srv.ConfigPath())
		require.NoError(t, err)
		out, exit := srv.Appcmd(ctx, args, nil)
		require.Zero(t, exit, "%s", out)
		setup, err := iis.NewSetup(iis.SetupConfig{App: app, Strategy: iis.StrategyRootSwap, Site: "Shop",
			Staging: []string{"http/127.0.0.1:8001:", "http/127.0.0.1:8002:"}})
		require.NoError(t, err)
		before := configuration(t, srv)
		assert.ErrorContains(t, setup.Apply(ctx), what)
		assert.Equal(t, before, configuration(t, srv), "nothing was changed")
		require.NoError(t, srv.EditConfig(func([]byte) ([]byte, error) { return data, nil }))
		require.NoError(t, srv.Settle(ctx))
	}
}

// A site that nobody can ask by http gives the live sites of a toggle nothing to share.
func TestSetupRefusesASiteWithoutPublicBindings(t *testing.T) {
	srv, app := bare(t, iis.Classic)
	ctx := t.Context()
	out, exit := srv.Appcmd(ctx, []string{"set", "site", "Shop", "/bindings:net.tcp/808:*"}, nil)
	require.Zero(t, exit, "%s", out)
	setup, err := iis.NewSetup(iis.SetupConfig{App: app, Strategy: iis.StrategySiteToggle, Site: "Shop",
		Staging: []string{"http/127.0.0.1:8001:", "http/127.0.0.1:8002:"}})
	require.NoError(t, err)
	before := configuration(t, srv)
	_, err = setup.Plan(ctx)
	assert.ErrorContains(t, err, "no binding of http or https")
	assert.ErrorIs(t, setup.Apply(ctx), abswap.ErrPermanent)
	assert.Equal(t, before, configuration(t, srv), "nothing was changed")
}

// The first slot's site may keep a binding of its own, for a monitor say, when the public ones move: that does not make it the live one.
func TestUndoIsRefusedWhileAnotherSiteHasThePublicBindings(t *testing.T) {
	srv, app := bare(t, iis.Classic)
	ctx := t.Context()
	appcmd := func(args ...string) {
		t.Helper()
		out, exit := srv.Appcmd(ctx, args, nil)
		require.Zero(t, exit, "%s", out)
	}
	setup, err := iis.NewSetup(iis.SetupConfig{App: app, Strategy: iis.StrategyBindingSwap, Site: "Shop",
		Staging: []string{"http/127.0.0.1:8001:", "http/127.0.0.1:8002:"}})
	require.NoError(t, err)
	require.NoError(t, setup.Apply(ctx))
	appcmd("set", "site", "Shop", "/bindings:http/127.0.0.1:8001:,http/127.0.0.1:9000:")
	appcmd("set", "site", "Shop-green", "/bindings:http/127.0.0.1:8002:,"+public)
	require.NoError(t, srv.Settle(ctx))
	before := configuration(t, srv)
	assert.ErrorIs(t, setup.Undo(ctx), abswap.ErrSlotOccupied)
	assert.Equal(t, before, configuration(t, srv), "nothing was changed")
}
