package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// longestHealthTest is the interval that still takes a stopped member out soon after ARR has forgotten the states.
const longestHealthTest = 5 * time.Second

// findings collects what a check finds.
type findings struct{ errs []error }

func (f *findings) bad(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

func (f *findings) warn(format string, args ...any) {
	f.errs = append(f.errs, abswap.Warnf(format, args...))
}

// loss reports one: an error, or a warning where the caller bears it.
func (f *findings) loss(borne bool, format string, args ...any) {
	if borne {
		f.warn(format, args...)
		return
	}
	f.bad(format, args...)
}

// inspection is what a check looks at.
type inspection struct {
	*Switcher
	*findings
	req   abswap.CheckRequest
	view  *view
	farm  *appcmd.Element
	rules *appcmd.Element
	proxy *appcmd.Element
	pool  appcmd.Pool
	sites []appcmd.Site
}

// Check looks for what would keep a switch from going well: members and farm, the rule that feeds it, health test, weights, affinity, times, and
// whether ARR's application pool lives for ever. It changes nothing.
//
// If old members are to be stopped it wants a health test with an interval of at most 5 s, which a stopped slot cannot answer, and a pool that
// nothing recycles: after a recycle ARR takes all members for available.
func (s *Switcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	x := &inspection{Switcher: s, findings: &findings{}, req: r}
	if err := x.read(ctx); err != nil {
		return s.errorf("check: %w", err)
	}
	x.members()
	x.routing()
	x.health()
	x.weights()
	x.immortal()
	x.affinity()
	x.times()
	x.evidence(ctx)
	for i, err := range x.errs {
		if w, ok := errors.AsType[*abswap.Warning](err); ok {
			x.errs[i] = abswap.Warnf("arr farm %q: %w", s.cfg.Farm, w.Err)
			continue
		}
		x.errs[i] = s.errorf("%w", err)
	}
	return multi.Join(x.errs...)
}

// read gets all that is looked at.
func (x *inspection) read(ctx context.Context) error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, explain(err))
		}
	}
	var err error
	x.view, err = x.look(ctx)
	note(err)
	farms, err := x.client.Config(ctx, "", farmsSection)
	note(err)
	for _, f := range farms.All("webFarm") {
		if strings.EqualFold(f.Get("name"), x.cfg.Farm) {
			x.farm = f
		}
	}
	if err == nil && x.farm == nil {
		note(fmt.Errorf("there is no such web farm: %w", abswap.ErrPermanent))
	}
	x.rules, err = x.client.Config(ctx, "", "system.webServer/rewrite/globalRules")
	note(err)
	x.proxy, err = x.client.Config(ctx, "", "system.webServer/proxy")
	note(err)
	x.pool, err = x.client.Pool(ctx, x.cfg.Pool)
	note(err)
	x.sites, err = x.client.Sites(ctx)
	note(err)
	return multi.Join(errs...)
}

func (x *inspection) members() {
	for _, s := range x.req.Slots {
		if _, err := x.find(s); err != nil {
			x.bad("the Swapper has a slot that the switcher has not: %w", err)
		}
	}
	for _, m := range x.view.Servers {
		name, own := x.slotOf[strings.ToLower(m.Address)]
		switch {
		case own && !m.Enabled:
			x.bad("member %q of slot %q is offline (enabled=false): bring it online before the deploy, since that is a commit", m.Address, name)
		case !own && m.Enabled:
			x.bad("member %q belongs to no slot, and takes a share of the requests: name it in Config.Slots, or set it offline", m.Address)
		}
	}
	if !x.farm.Bool("enabled", true) {
		x.bad("the farm is disabled")
	}
}

// routing looks at what leads requests into the farm.
func (x *inspection) routing() {
	if !x.proxy.Bool("enabled", false) {
		x.bad("system.webServer/proxy is not enabled: ARR forwards nothing")
	}
	var feeding []*appcmd.Element
	for _, r := range x.rules.All("rule") {
		url := strings.ToLower(r.Child("action").Get("url"))
		_, rest, _ := strings.Cut(url, "://")
		if host, _, _ := strings.Cut(rest, "/"); host == strings.ToLower(x.cfg.Farm) && r.Bool("enabled", true) {
			feeding = append(feeding, r)
		}
	}
	if len(feeding) == 0 {
		x.bad("no rule among the server's global rewrite rules leads to http://%s/", x.cfg.Farm)
	}
	for _, r := range feeding {
		if len(r.Child("conditions").All("add")) > 0 {
			continue
		}
		for _, site := range x.sites {
			for _, b := range site.Bindings {
				if _, port, _, err := b.Split(); err == nil && slices.Contains(x.ports(), int(port)) {
					x.bad("rule %q has no condition, and site %q listens on the port of a member: ARR would feed itself; "+
						"add a condition on {SERVER_PORT}", r.Get("name"), site.Name)
				}
			}
		}
	}
}

// ports are those of the slots' members.
func (x *inspection) ports() []int {
	var all []int
	for _, m := range x.farm.All("server") {
		if _, own := x.slotOf[strings.ToLower(m.Get("address"))]; own {
			if n, err := strconv.Atoi(m.Child("applicationRequestRouting").Get("httpPort")); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// part is a part of the farm's settings; nil: it is not shown.
func (x *inspection) part(name string) *appcmd.Element {
	return x.farm.Find("applicationRequestRouting", name)
}

func span(e *appcmd.Element, name string, def time.Duration) time.Duration {
	if d, err := appcmd.ParseTimeSpan(e.Get(name)); err == nil {
		return d
	}
	return def
}

func (x *inspection) health() {
	h := x.part("healthCheck")
	url, interval := h.Get("url"), span(h, "interval", 30*time.Second)
	switch {
	case url == "" && x.req.Stops:
		x.bad("old members are to be stopped, and the farm has no health test: when ARR forgets the states it sends requests to them; " +
			"set healthCheck.url to a page that only a running slot answers, with an interval of at most 5 s, or only retain old slots")
	case url == "":
		x.warn("the farm has no health test: ARR takes every member for healthy")
	case interval > longestHealthTest && x.req.Stops:
		x.bad("old members are to be stopped, and the farm's health test has an interval of %s: when ARR forgets the states it sends requests to them "+
			"for so long; set at most %s, or only retain old slots", interval, longestHealthTest)
	}
}

func (x *inspection) weights() {
	algorithm := x.part("loadBalancing").Get("algorithm")
	known := algorithm == "" || strings.EqualFold(algorithm, "WeightedRoundRobin") || byHash(algorithm)
	if !known {
		x.warn("the algorithm %s is not supported by ARR any more, which falls back on WeightedRoundRobin", algorithm)
	}
	if len(x.req.Steps) == 0 {
		return
	}
	c := Case{Way: WayWeights, Hash: byHash(algorithm), Facts: x.cfg.Facts.assume()}
	for _, l := range c.Losses() {
		switch l.Rule {
		case Refused:
			x.bad("steps %v: %s: %w", x.req.Steps, l.Why, errors.ErrUnsupported)
		case "S3":
			x.loss(x.cfg.Accept.RestartsMembers, "steps %v: %s (rule %s): %s; say in Config.Facts if it is not so here, or in Config.Accept if it is borne",
				x.req.Steps, l.Why, l.Rule, l.Cure)
		default:
			x.warn("steps %v: %s (rule %s): %s", x.req.Steps, l.Why, l.Rule, l.Cure)
		}
	}
	if x.affine() {
		x.warn("steps %v: they are parts of new clients; those with an affinity cookie stay where they are", x.req.Steps)
	}
}

// immortal looks at what ends ARR's worker process, and the states with it.
func (x *inspection) immortal() {
	p := x.pool
	var why []string
	if p.IdleTimeout > 0 {
		why = append(why, fmt.Sprintf("idleTimeout %s", p.IdleTimeout))
	}
	if p.PeriodicRestart > 0 {
		why = append(why, fmt.Sprintf("periodicRestart.time %s", p.PeriodicRestart))
	}
	restart := p.Config.Find("recycling", "periodicRestart")
	for _, name := range []string{"memory", "privateMemory", "requests"} {
		if v := restart.Get(name); v != "" && v != "0" {
			why = append(why, "periodicRestart."+name+" "+v)
		}
	}
	if len(restart.Child("schedule").All("add")) > 0 {
		why = append(why, "a schedule of periodicRestart")
	}
	if len(why) > 0 {
		x.loss(!x.req.Stops || x.cfg.Accept.Mortal, "pool %q ends its worker process by itself (%s), and ARR forgets the states of members with it, so that closed slots "+
			"take requests until a Keeper has seen it: set these to 0", p.Name, strings.Join(why, ", "))
	}
	if p.MaxProcesses > 1 {
		x.bad("pool %q has %d worker processes: each has states and counters of its own", p.Name, p.MaxProcesses)
	}
	if p.State != appcmd.Started {
		x.bad("pool %q is %s", p.Name, p.State)
	}
	if !strings.EqualFold(p.StartMode, "AlwaysRunning") {
		x.warn("pool %q has startMode %s: without a worker process there is nothing to hold a state; set AlwaysRunning", p.Name, p.StartMode)
	}
	if p.DisallowOverlappingRotation {
		x.warn("pool %q has disallowOverlappingRotation: nobody serves while it is recycled", p.Name)
	}
	if !p.DisallowRotationOnConfigChange {
		x.warn("pool %q is recycled when its configuration changes: set recycling.disallowRotationOnConfigChange", p.Name)
	}
	if d := x.req.Drain.Timeout; p.ShutdownTimeLimit < d || d == 0 && p.ShutdownTimeLimit < time.Hour {
		x.warn("pool %q has shutdownTimeLimit %s: a recycle cuts requests that last longer", p.Name, p.ShutdownTimeLimit)
	}
	if x.cfg.Memory == "" {
		x.warn("Config.Memory is empty: no Keeper in another process can restore the states when ARR has forgotten them")
	}
	for _, site := range x.sites {
		if app, _ := site.Root(); app != nil && strings.EqualFold(app.Pool, p.Name) && app.PreloadEnabled {
			x.warn("site %q has preloadEnabled in ARR's pool: Microsoft documents Application Initialization and ARR as incompatible", site.Name)
		}
	}
}

func (x *inspection) affine() bool { return x.part("affinity").Bool("useCookie", false) }

func (x *inspection) affinity() {
	switch {
	case x.affine() && !x.cfg.KeepSessions:
		x.warn("the farm has affinity by cookie: with the switch all clients move to the new slot, and what a session keeps in a member's memory is lost to it; " +
			"Config.KeepSessions leaves them")
	case !x.affine() && x.cfg.KeepSessions:
		x.warn("Config.KeepSessions has no effect: the farm has no affinity by cookie")
	case x.affine() && !x.req.Drain.Sessions:
		x.warn("Config.KeepSessions leaves clients with their cookie to the old slot, and the drain does not wait for them: set DrainOptions.Sessions, " +
			"and NewSessions as the Drainer")
	}
}

func (x *inspection) times() {
	p := x.part("protocol")
	if limit := span(p, "timeout", 30*time.Second); limit < 5*time.Minute {
		x.warn("the farm's timeout is %s: ARR answers 502.3 where a member has not answered in that time, also to an upload that takes longer; "+
			"set protocol.timeout above the longest request", limit)
	}
	if p.Bool("bufferChunkedResponses", true) {
		x.warn("protocol.bufferChunkedResponses: ARR may hold event streams back")
	}
}

// evidence looks whether what the counters lose can be found out.
func (x *inspection) evidence(ctx context.Context) {
	if x.cfg.Inside != nil {
		if c, ok := abswap.As[abswap.Checker](x.cfg.Inside); ok {
			x.errs = append(x.errs, multi.All(c.Check(ctx, x.req))...)
		}
		return
	}
	_, err := x.client.Requests(ctx, appcmd.RequestFilter{Pool: x.cfg.Pool})
	switch {
	case appcmd.ClassOf(err) == appcmd.NotImplemented:
		x.bad("nobody could tell when an old slot is idle, since ARR's counters forget: install the Windows feature Request Monitor "+
			"(Web-Request-Monitor, IIS-RequestMonitor), or set Config.Inside: %w: %w", errors.ErrUnsupported, err)
	case err != nil:
		x.bad("requests of pool %q: %w", x.cfg.Pool, explain(err))
	}
}
