package iis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

const host = "www.example.test"

// setting is one emulated machine with an application in two slots.
type setting struct {
	strategy    iis.Strategy
	mode        iis.Mode
	noRotation  bool
	quirks      iistest.Quirks
	accept      iis.Accept
	facts       iis.Facts
	stagedApart bool // staging sites have pools of their own
	scale       float64
	patience    time.Duration
	language    iistest.Language
	appStart    time.Duration // emulated
	deploys     bool          // releases are deployed, and answer with their own IDs
	settle      time.Duration
}

// box is a setting at work.
type box struct {
	srv         *iistest.Server
	app         *iis.App
	blue, green *iis.Slot
	sw          abswap.Switcher
	drainer     *iis.Drainer
	apps        map[string]*switchertest.App
	direct      []*httptest.Server

	mu       sync.Mutex
	commands []string
	switched []iis.Switched
}

// switcherOf is what the tests need of all three.
type switcherOf interface {
	abswap.TraitsSwitcher
	abswap.Checker
}

// runner is the emulator in the place of appcmd.exe.
type runner struct {
	srv  *iistest.Server
	cost time.Duration // of the start of a process
}

func (r runner) Run(ctx context.Context, args []string, stdin []byte) ([]byte, uint32, error) {
	pause(ctx, r.cost)
	return r.srv.Run(ctx, args, stdin)
}

// slotNames are those of the two slots.
var slotNames = func() []string { return []string{"blue", "green"} }

// folders are where the slots' first releases are, as IIS sees them.
func folderOf(slot string) string { return `C:\inetpub\MySite.` + slot + `-1` }

// webConfig makes a folder hold a release of that mode.
func webConfig(mode iis.Mode, noRotation bool) string {
	if mode == iis.Classic {
		return `<configuration><system.web><hostingEnvironment shutdownTimeout="100" /></system.web></configuration>`
	}
	model, setting := "outofprocess", ""
	if mode == iis.CoreInProcess {
		model = "inprocess"
	}
	if noRotation {
		setting = `<handlerSettings><handlerSetting name="disallowRotationOnConfigChange" value="true" /></handlerSettings>`
	}
	return `<configuration><system.webServer><handlers><add name="aspNetCore" path="*" verb="*" modules="AspNetCoreModuleV2" /></handlers>` +
		`<aspNetCore processPath="app.exe" hostingModel="` + model + `" shutdownTimeLimit="800">` + setting + `</aspNetCore></system.webServer></configuration>`
}

// poolXML is a pool as Setup would make it.
func poolXML(name string) string {
	return `<add name="` + name + `" managedRuntimeVersion="" startMode="OnDemand" autoStart="true">` +
		`<processModel idleTimeout="00:00:00" shutdownTimeLimit="5.00:00:00" /><recycling disallowRotationOnConfigChange="true"><periodicRestart time="00:00:00" /></recycling></add>`
}

func siteXML(name string, id int, autoStart bool, pool, folder string, bindings ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<site name="%s" id="%d" serverAutoStart="%t"><application path="/" applicationPool="%s"><virtualDirectory path="/" physicalPath="%s" /></application><bindings>`,
		name, id, autoStart, pool, folder)
	for _, x := range bindings {
		protocol, info, _ := strings.Cut(x, "/")
		flags := ""
		if protocol == "https" {
			flags = ` sslFlags="1"`
		}
		fmt.Fprintf(&b, `<binding protocol="%s" bindingInformation="%s"%s />`, protocol, info, flags)
	}
	b.WriteString("</bindings></site>")
	return b.String()
}

const public = "http/*:80:" + host

// hostConfig is applicationHost.config for a setting, with blue active and somebody else's site beside.
func (s setting) hostConfig() string {
	staging := map[string]string{"blue": "http/127.0.0.1:8001:", "green": "http/127.0.0.1:8002:"}
	var pools, sites []string
	pools = append(pools, `<add name="DefaultAppPool" managedRuntimeVersion="v4.0" />`)
	sites = append(sites, siteXML("Intranet", 1, true, "DefaultAppPool", `C:\inetpub\intranet`, "http/*:8080:"))
	for i, slot := range slotNames() {
		pool := "MySite-" + slot
		pools = append(pools, poolXML(pool))
		stagePool := pool
		if s.stagedApart {
			stagePool += "-staging"
			pools = append(pools, poolXML(stagePool))
		}
		bindings := []string{staging[slot]}
		if s.strategy == iis.StrategyBindingSwap && slot == "blue" {
			bindings = append(bindings, public)
		}
		sites = append(sites, siteXML("MySite-"+slot, 10+i, true, stagePool, folderOf(slot), bindings...))
		if s.strategy == iis.StrategySiteToggle {
			sites = append(sites, siteXML("MySite-"+slot+"-live", 20+i, slot == "blue", pool, folderOf(slot), public))
		}
	}
	if s.strategy == iis.StrategyRootSwap {
		sites = append(sites, siteXML("MySite", 2, true, "MySite-blue", folderOf("blue"), public))
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <system.applicationHost>
    <applicationPools>
      ` + strings.Join(pools, "\n      ") + `
    </applicationPools>
    <sites>
      ` + strings.Join(sites, "\n      ") + `
      <applicationDefaults applicationPool="DefaultAppPool" />
    </sites>
  </system.applicationHost>
</configuration>
`
}

// open starts the machine, with the switcher and all that belongs to it.
func (s setting) open() (_ *box, err error) {
	b := &box{apps: map[string]*switchertest.App{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	for _, slot := range slotNames() {
		b.apps[slot] = switchertest.NewApp(slot)
		b.direct = append(b.direct, httptest.NewServer(b.apps[slot]))
	}
	s.stagedApart = s.mode == iis.CoreInProcess && s.strategy != iis.StrategyBindingSwap
	delay, cost := 20*time.Second, time.Duration(0)
	if s.strategy == iis.StrategySiteToggle {
		cost = 5 * time.Millisecond // or the gap would be so short that hardly a request meets it
	}
	s.quirks.QueueDwell = 2 * time.Second
	if s.quirks.AddAndRemoveRefused == iistest.On {
		s.accept.TwoCommits = true
		delay, cost = time.Second, 5*time.Millisecond // or both commits could come into force at one time
	}
	scale := s.scale
	if scale == 0 {
		scale = 0.001
	}
	dir, err := os.MkdirTemp("", "iisbox")
	if err != nil {
		return nil, err
	}
	path := drives(dir)
	for _, slot := range slotNames() {
		at := path(folderOf(slot))
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(at, "web.config"), []byte(webConfig(s.mode, s.noRotation)), 0o644); err != nil {
			return nil, err
		}
	}
	b.srv, err = iistest.New(iistest.Config{
		Dir: dir, ApplicationHost: s.hostConfig(), Scale: scale, Quirks: s.quirks, Path: path, Language: s.language,
		WASDelay: delay, WorkerStart: 5 * time.Second, AppStart: cmp.Or(s.appStart, 20*time.Second), HostingShutdown: 800 * time.Second,
		Host: func(folder string) (http.Handler, error) {
			if s.deploys {
				return release(folder), nil
			}
			return b.host(folder)
		},
	})
	if err != nil {
		return nil, err
	}
	b.app = &iis.App{
		Host: host, Mark: iis.Mark{Header: "X-Switchertest-Slot", Want: func(slot, _ string) string { return slot }},
		Patience: 20 * time.Second, Probe: 10 * time.Second, Accept: s.accept, Facts: told(s.facts),
		Server: &iis.Server{Runner: runner{b.srv, cost}, LockFile: filepath.Join(dir, "lock"), Pause: 10 * time.Millisecond, Dial: b.srv.DialContext, Folder: path,
			OnCommand: b.onCommand},
		OnSwitch: b.onSwitch,
	}
	if s.deploys {
		b.app.Mark = iis.Mark{Header: "X-Release"}
	}
	return b, b.build(s)
}

// told are the facts that the switcher is told: with ConnectionsStick it would say that it decides per connection, and not be asked.
func told(f iis.Facts) iis.Facts {
	f.ConnectionsStick = iis.NotKnown
	return f
}

func (b *box) onCommand(command string, _ time.Duration, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commands = append(b.commands, command)
}

// ran tells whether a command with these words was begun.
func (b *box) ran(words string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.commands, func(c string) bool { return strings.Contains(c, words) })
}

func (b *box) onSwitch(s iis.Switched) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.switched = append(b.switched, s)
}

// host runs the application that is in a folder: which slot's, its name tells.
func (b *box) host(folder string) (http.Handler, error) {
	for slot, app := range b.apps {
		if strings.Contains(filepath.Base(folder), slot) {
			return app, nil
		}
	}
	return http.NotFoundHandler(), nil
}

// build makes the slots and the switcher.
func (b *box) build(s setting) (err error) {
	slot := func(name, staging string) (*iis.Slot, error) {
		cfg := iis.SlotConfig{App: b.app, Name: name, Pool: "MySite-" + name, Site: "MySite-" + name, Staging: staging}
		if s.deploys {
			cfg.Install = s.install(b.app.Server.Folder)
		}
		if s.strategy == iis.StrategySiteToggle {
			cfg.Live = "MySite-" + name + "-live"
		}
		return iis.NewSlot(cfg)
	}
	if b.blue, err = slot("blue", "http/127.0.0.1:8001:"); err != nil {
		return err
	}
	if b.green, err = slot("green", "http/127.0.0.1:8002:"); err != nil {
		return err
	}
	slots := []*iis.Slot{b.blue, b.green}
	b.drainer = &iis.Drainer{Slots: slots}
	switch s.strategy {
	case iis.StrategyRootSwap:
		b.sw, err = iis.NewRootSwap(iis.RootSwapConfig{App: b.app, Site: "MySite", Slots: slots})
	case iis.StrategySiteToggle:
		b.sw, err = iis.NewSiteToggle(iis.SiteToggleConfig{App: b.app, Slots: slots})
	case iis.StrategyBindingSwap:
		b.sw, err = iis.NewBindingSwap(iis.BindingSwapConfig{App: b.app, Bindings: []iis.Binding{{Protocol: "http", Information: "*:80:" + host}}, Slots: slots})
	}
	return err
}

func (b *box) close() error {
	var errs []error
	if b.srv != nil {
		errs = append(errs, b.srv.Close(), os.RemoveAll(b.srv.Dir()))
	}
	for _, d := range b.direct {
		d.Close()
	}
	return errors.Join(errs...)
}

// rig is the box as the suite wants it.
func (s setting) rig(context.Context) (switchertest.Rig, error) {
	b, err := s.open()
	if err != nil {
		return switchertest.Rig{}, err
	}
	front, err := b.srv.URL(public)
	if err != nil {
		return switchertest.Rig{}, errors.Join(err, b.close())
	}
	site := &switchertest.Site{Front: front, Host: host, Slots: map[string]string{"blue": b.direct[0].URL, "green": b.direct[1].URL}}
	r := site.Rig()
	r.Switcher, r.Drainer, r.Blue, r.Green = b.sw, b.drainer, b.blue, b.green
	r.Load, r.Settle, r.Patience = 120, cmp.Or(s.settle, 250*time.Millisecond), cmp.Or(s.patience, 15*time.Second)
	r.Rest = b.rest
	r.Disturb = func(ctx context.Context, slot string) error { return b.disturb(ctx, s.strategy, slot) }
	r.Close = func() error { return errors.Join(site.Close(), b.close()) }
	return r, nil
}

// drives tells where a machine in dir has what IIS calls C:\x.
func drives(dir string) func(string) string {
	return func(physical string) string {
		return filepath.Join(dir, "drives", filepath.FromSlash(strings.ReplaceAll(strings.ReplaceAll(physical, ":", ""), `\`, "/")))
	}
}

// appcmd runs a command as an operator would.
func (b *box) appcmd(ctx context.Context, args ...string) error {
	if out, exit := b.srv.Appcmd(ctx, args, nil); exit != 0 {
		return fmt.Errorf("appcmd %q: exit %d: %s", args, exit, out)
	}
	return nil
}

// disturb is what an operator does with IIS Manager.
func (b *box) disturb(ctx context.Context, strategy iis.Strategy, slot string) error {
	var errs []error
	run := func(args ...string) { errs = append(errs, b.appcmd(ctx, args...)) }
	other := map[string]string{"blue": "green", "green": "blue"}[slot]
	switch {
	case slot == "" && strategy == iis.StrategyRootSwap:
		run("stop", "site", "MySite")
	case slot == "" && strategy == iis.StrategySiteToggle:
		for _, s := range slotNames() {
			b.srv.Appcmd(ctx, []string{"stop", "site", "MySite-" + s + "-live"}, nil)
		}
	case slot == "":
		for _, s := range slotNames() {
			b.srv.Appcmd(ctx, []string{"set", "site", "/site.name:MySite-" + s, "/-bindings.[protocol='http',bindingInformation='*:80:" + host + "']"}, nil)
		}
	case strategy == iis.StrategyRootSwap:
		run("set", "app", "MySite/", "/applicationPool:MySite-"+slot)
		run("set", "vdir", "MySite/", "/physicalPath:"+folderOf(slot))
	case strategy == iis.StrategySiteToggle:
		run("stop", "site", "MySite-"+other+"-live")
		run("start", "site", "MySite-"+slot+"-live")
	default:
		run("set", "site", "/site.name:MySite-"+other, "/-bindings.[protocol='http',bindingInformation='*:80:"+host+"']")
		run("set", "site", "/site.name:MySite-"+slot, "/+bindings.[protocol='http',bindingInformation='*:80:"+host+"']")
	}
	errs = append(errs, b.srv.Settle(ctx))
	if strategy == iis.StrategyBindingSwap && slot != "" {
		b.srv.Appcmd(ctx, []string{"start", "site", "MySite-" + slot}, nil) // IIS may have stopped it
	}
	return errors.Join(errs...)
}

// rest is the configuration without what a switch is about: the root of the public site, the public bindings, and serverAutoStart of live sites.
func (b *box) rest(context.Context) (string, error) {
	data, err := os.ReadFile(b.srv.ConfigPath())
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	for _, cut := range []struct{ find, put string }{
		{`(<site name="MySite" [^>]*> ?<application path="/" applicationPool=)"[^"]*"`, "$1"},
		{`(<site name="MySite" [^>]*> ?<application path="/" applicationPool=> ?<virtualDirectory path="/" physicalPath=)"[^"]*"`, "$1"},
		{`(<site name="MySite-[a-z]*-live" [^>]*serverAutoStart=)"[^"]*"`, "$1"},
		{`(?i)<binding protocol="http" bindingInformation="\*:80:` + host + `" ?/>`, ""},
		{`> <`, "><"},
	} {
		text = regexp.MustCompile(cut.find).ReplaceAllString(text, cut.put)
	}
	return text, nil
}

// readDoc is the package's comment without the signs of one.
func readDoc(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	return string(data)
}

// await calls f until it returns nil, for at most 20 seconds.
func await(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}
