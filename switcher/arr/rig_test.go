package arr_test

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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

const (
	host = "www.example.test"
	farm = "MySite-Farm"
	pool = "ArrFront"
)

// setting is one emulated machine: a site that feeds a farm, with members in sites of their own.
type setting struct {
	mode      iistest.Mode
	quirks    iistest.ARRQuirks
	affinity  bool
	algorithm string  // "": WeightedRoundRobin
	members   int     // of each slot; 0: 1
	health    string  // the element healthCheck
	timeout   string  // of the farm; "": a day
	pool      string  // children of ARR's pool; "": immortal
	process   bool    // calls go through a real process
	deploys   bool    // releases are deployed into the slots, whose applications answer with them
	scale     float64 // of time; 0: 0.001
	with      func(*arr.Config)
}

// box is a setting at work.
type box struct {
	srv         *iistest.Server
	cfg         arr.Config
	sw          *arr.Switcher
	blue, green *abswap.HTTPSlot
	apps        map[string]*switchertest.App
	direct      []*httptest.Server
	dir         string
	deploys     bool
	path        func(physical string) string // where a folder of the machine is
	asked       atomic.Int64
	uploading   atomic.Int64
}

// runner is the emulator in the place of appcmd.exe.
type runner struct{ srv *iistest.Server }

func (r runner) Run(ctx context.Context, args []string, stdin []byte) ([]byte, uint32, error) {
	out, exit := r.srv.Appcmd(ctx, args, stdin)
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	return out, exit, nil
}

// caller is the emulator in the place of PowerShell.
type caller struct{ srv *iistest.Server }

func (c caller) Call(ctx context.Context, line []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", arr.ErrNotCalled, context.Cause(ctx))
	}
	return c.srv.CallARR(ctx, line)
}

func slotNames() []string { return []string{"blue", "green"} }

// address is that of member i of a slot.
func address(slot string, i int) string { return fmt.Sprintf("mysite-%s-%d", slot, i) }

func port(slot string, i int) int {
	return map[string]int{"blue": 8100, "green": 8200}[slot] + i
}

// hostConfig is applicationHost.config for a setting, with somebody else's site and farm beside.
func (s setting) hostConfig() string {
	var pools, sites, servers strings.Builder
	id := 10
	for _, slot := range slotNames() {
		for i := range max(1, s.members) {
			name := fmt.Sprintf("MySite-%s-%d", slot, i)
			fmt.Fprintf(&pools, `<add name="%s" managedRuntimeVersion=""><processModel idleTimeout="00:00:00" shutdownTimeLimit="5.00:00:00" /></add>`, name)
			fmt.Fprintf(&sites, `<site name="%s" id="%d"><application path="/" applicationPool="%s"><virtualDirectory path="/" physicalPath="C:\inetpub\MySite.%s-1" /></application>`+
				`<bindings><binding protocol="http" bindingInformation="127.0.0.1:%d:" /></bindings></site>`, name, id, name, slot, port(slot, i))
			fmt.Fprintf(&servers, `<server address="%s" enabled="true"><applicationRequestRouting weight="100" httpPort="%d" /></server>`, address(slot, i), port(slot, i))
			id++
		}
	}
	immortal := `<processModel idleTimeout="00:00:00" shutdownTimeLimit="5.00:00:00" /><recycling disallowRotationOnConfigChange="true"><periodicRestart time="00:00:00" /></recycling>`
	return `<?xml version="1.0" encoding="UTF-8"?><configuration><system.applicationHost><applicationPools><add name="Other" />` +
		`<add name="` + pool + `" managedRuntimeVersion="" startMode="AlwaysRunning">` + cmp.Or(s.pool, immortal) + `</add>` + pools.String() +
		`</applicationPools><sites><site name="Other" id="1"><application path="/" applicationPool="Other"><virtualDirectory path="/" physicalPath="C:\inetpub\other" /></application>` +
		`<bindings><binding protocol="http" bindingInformation="*:8080:" /></bindings></site>` +
		`<site name="MySite" id="2"><application path="/" applicationPool="` + pool + `"><virtualDirectory path="/" physicalPath="C:\inetpub\arr-empty" /></application>` +
		`<bindings><binding protocol="http" bindingInformation="*:80:` + host + `" /></bindings></site>` + sites.String() + `</sites></system.applicationHost>` +
		`<webFarms><webFarm name="Others"><server address="10.1.1.1" /></webFarm><webFarm name="` + farm + `" enabled="true">` + servers.String() +
		`<applicationRequestRouting><affinity useCookie="` + fmt.Sprint(s.affinity) + `" /><loadBalancing algorithm="` + cmp.Or(s.algorithm, "WeightedRoundRobin") + `" />` +
		s.health + `<protocol timeout="` + cmp.Or(s.timeout, "1.00:00:00") + `" bufferChunkedResponses="false" /></applicationRequestRouting></webFarm></webFarms>` +
		`<system.webServer><proxy enabled="true" preserveHostHeader="true" /><rewrite><globalRules><rule name="ARR_loadbalance" patternSyntax="Wildcard" stopProcessing="true">` +
		`<match url="*" /><conditions><add input="{SERVER_PORT}" pattern="80" /></conditions><action type="Rewrite" url="http://` + farm + `/{R:0}" /></rule></globalRules></rewrite></system.webServer></configuration>`
}

func webConfig(mode iistest.Mode) string {
	switch mode {
	case iistest.CoreInProcess:
		return `<configuration><system.webServer><aspNetCore processPath="app.exe" hostingModel="inprocess" shutdownTimeLimit="800" /></system.webServer></configuration>`
	case iistest.CoreOutProcess:
		return `<configuration><system.webServer><aspNetCore processPath="app.exe" hostingModel="outofprocess" shutdownTimeLimit="800" /></system.webServer></configuration>`
	}
	return `<configuration />`
}

// open starts the machine. The caller closes it.
func (s setting) open() (_ *box, err error) {
	b := &box{apps: map[string]*switchertest.App{}, deploys: s.deploys}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.dir, err = os.MkdirTemp("", "arrbox"); err != nil {
		return nil, err
	}
	b.path = func(physical string) string {
		return filepath.Join(b.dir, "drives", filepath.FromSlash(strings.ReplaceAll(strings.ReplaceAll(physical, ":", ""), `\`, "/")))
	}
	for _, slot := range slotNames() {
		at := b.path(`C:\inetpub\MySite.` + slot + `-1`)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(at, "web.config"), []byte(webConfig(s.mode)), 0o644); err != nil {
			return nil, err
		}
		for name, text := range map[string]string{"up.html": "up", "release.txt": "v1"} {
			if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
		b.apps[slot] = switchertest.NewApp(slot)
		b.direct = append(b.direct, httptest.NewServer(b.apps[slot]))
	}
	b.srv, err = iistest.New(iistest.Config{
		Dir: b.dir, ApplicationHost: s.hostConfig(), Scale: cmp.Or(s.scale, 0.001), ARR: s.quirks, Path: b.path, WASDelay: 20 * time.Second, WorkerStart: 5 * time.Second,
		AppStart: 20 * time.Second, Host: b.host,
	})
	if err != nil {
		return nil, err
	}
	b.cfg = arr.Config{
		Farm: farm, Pool: pool, Slots: map[string][]string{}, Patience: 20 * time.Second, Poll: 10 * time.Millisecond, Settle: 300 * time.Millisecond,
		Runner: runner{b.srv}, LockFile: filepath.Join(b.dir, "lock"), Caller: caller{b.srv}, Memory: filepath.Join(b.dir, "memory.json"),
	}
	for _, slot := range slotNames() {
		for i := range max(1, s.members) {
			b.cfg.Slots[slot] = append(b.cfg.Slots[slot], address(slot, i))
		}
	}
	if s.process {
		if b.cfg.PowerShell, err = b.srv.PowerShell(); err != nil {
			return nil, err
		}
		b.cfg.Caller = nil
	}
	b.blue = &abswap.HTTPSlot{ID: "blue", URL: b.direct[0].URL + "/"}
	b.green = &abswap.HTTPSlot{ID: "green", URL: b.direct[1].URL + "/"}
	if s.with != nil {
		s.with(&b.cfg)
	}
	if b.sw, err = arr.New(b.cfg); err != nil {
		return nil, err
	}
	return b, b.ready()
}

// ready waits until ARR has a worker process and each member has answered once.
func (b *box) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		all, err := b.srv.Members(farm)
		if err != nil {
			return err
		}
		warm := 0
		for _, m := range all {
			if m.Total > 0 {
				warm++
			}
		}
		if warm == len(all) {
			return nil
		}
		if _, err := b.ask(ctx); err != nil && ctx.Err() != nil {
			return fmt.Errorf("the front door does not answer: %w", err)
		}
	}
}

// ask asks the front door which slot answers.
func (b *box) ask(ctx context.Context) (string, error) {
	c := b.srv.Client()
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/?%d", host, b.asked.Add(1)), nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	return resp.Header.Get("X-Switchertest-Slot"), nil
}

// host runs the application that is in a folder: which slot's, its name tells. /up.html is the file of the folder.
func (b *box) host(folder string) (http.Handler, error) {
	for slot, app := range b.apps {
		if strings.Contains(filepath.Base(folder), slot) {
			var h http.Handler = app
			if b.deploys {
				var err error
				if h, err = b.release(slot, folder); err != nil {
					return nil, err
				}
			}
			mux := http.NewServeMux()
			mux.Handle("/", h)
			mux.HandleFunc("/up.html", func(rw http.ResponseWriter, r *http.Request) { http.ServeFile(rw, r, filepath.Join(folder, "up.html")) })
			return mux, nil
		}
	}
	return http.NotFoundHandler(), nil
}

func (b *box) close() error {
	var errs []error
	if b.sw != nil {
		errs = append(errs, b.sw.Close())
	}
	if b.srv != nil {
		errs = append(errs, b.srv.Close())
	}
	for _, d := range b.direct {
		d.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// opened is a box that the test closes.
func opened(t *testing.T, s setting) *box {
	t.Helper()
	b, err := s.open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.close()) })
	return b
}

// rig is the box as the suite wants it.
func (s setting) rig(context.Context) (switchertest.Rig, error) {
	b, err := s.open()
	if err != nil {
		return switchertest.Rig{}, err
	}
	front, err := b.srv.URL("http/*:80:" + host)
	if err != nil {
		return switchertest.Rig{}, errors.Join(err, b.close())
	}
	site := &switchertest.Site{Front: front, Host: host, Slots: map[string]string{"blue": b.direct[0].URL, "green": b.direct[1].URL}}
	r := site.Rig()
	r.Switcher, r.Blue, r.Green = b.sw, b.blue, b.green
	r.Load, r.Settle, r.Patience = 120, 100*time.Millisecond, 20*time.Second
	if *full {
		r.Load = 600
	}
	r.Disturb = func(_ context.Context, slot string) error { return b.disturb(slot) }
	r.Rest = b.rest
	r.Close = func() error { return errors.Join(site.Close(), b.close()) }
	return r, nil
}

// disturb is what an operator does with IIS Manager.
func (b *box) disturb(slot string) error {
	var errs []error
	for _, name := range append([]string{slot}, slotNames()...) { // the one that opens first
		for _, member := range b.cfg.Slots[name] {
			st := "GracefulStop"
			if name == slot {
				st = "Start"
			}
			errs = append(errs, b.srv.SetState(farm, member, st))
		}
	}
	return errors.Join(errs...)
}

// rest is the configuration without the weights of members.
func (b *box) rest(context.Context) (string, error) {
	data, err := os.ReadFile(b.srv.ConfigPath())
	return regexp.MustCompile(`weight="[0-9]*"`).ReplaceAllString(strings.Join(strings.Fields(string(data)), " "), ""), err
}
