package iistest

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is how a release is hosted. Its web.config decides: an aspNetCore element with or without hostingModel="inprocess".
type Mode uint8

// Modes.
const (
	Classic        Mode = iota // static files, ASP.NET, classic ASP: in the worker process, untouched by most commits
	CoreInProcess              // ASP.NET Core in the worker process, which then holds no other such application
	CoreOutProcess             // ASP.NET Core in a process of its own behind the worker process
)

func (m Mode) String() string {
	return [...]string{"classic", "Core in-process", "Core out-of-process"}[m]
}

// module is what the request monitor shows as the module that a request is in.
func (m Mode) module() string {
	return [...]string{"ManagedPipelineHandler", "AspNetCoreModuleV2", "AspNetCoreModuleV2"}[m]
}

// appKey is what warmth belongs to inside a worker process.
type appKey struct {
	site int
	path string // lower case
}

// release is what a folder's own files say.
type release struct {
	mode       Mode
	shutdown   time.Duration // shutdownTimeLimit of aspNetCore, or shutdownTimeout of hostingEnvironment; negative: Config.HostingShutdown
	noRotation bool          // disallowRotationOnConfigChange
	stamp      string        // of web.config
}

// instance is an application in a worker process. mu of the Server guards it.
type instance struct {
	key      appKey
	worker   *worker
	folder   string
	release  release
	handler  http.Handler  // nil before up, and if the start failed
	status   int           // of the failed start
	up       chan struct{} // closed when started, or when the start failed
	requests map[*request]struct{}
	closing  bool
	refusing bool // answers 503 until its worker process is replaced
}

var variable = regexp.MustCompile(`%([^%]+)%`)

// folder is the folder of this machine that a physical path means.
func (s *Server) folder(physicalPath string) string {
	if s.cfg.Path != nil {
		return s.cfg.Path(physicalPath)
	}
	p := variable.ReplaceAllStringFunc(physicalPath, func(v string) string {
		switch name := strings.ToLower(v[1 : len(v)-1]); name {
		case "systemdrive":
			return "C:"
		case "systemroot", "windir":
			return `C:\Windows`
		}
		return v
	})
	if runtime.GOOS == "windows" || len(p) < 2 || p[1] != ':' {
		return p
	}
	return filepath.Join(s.dir, "drives", strings.ToUpper(p[:1]), filepath.FromSlash(strings.ReplaceAll(p[2:], `\`, "/")))
}

// Folder is the folder of this machine that a physical path of the emulated one means.
func (s *Server) Folder(physicalPath string) string { return s.folder(physicalPath) }

// isOffline tells whether a folder holds app_offline.htm.
func isOffline(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "app_offline.htm"))
	return err == nil
}

// stamp tells one state of a folder's web.config from another; "": none is there.
func stamp(folder string) string {
	info, err := os.Stat(filepath.Join(folder, "web.config"))
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}

// readRelease reads what the files in a folder say.
func readRelease(folder string) release {
	r := release{shutdown: -1, stamp: stamp(folder)}
	data, err := os.ReadFile(filepath.Join(folder, "web.config"))
	if err != nil {
		return r
	}
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; {
		tok, err := d.Token()
		if err != nil {
			return r
		}
		start, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		at := map[string]string{}
		for _, a := range start.Attr {
			at[strings.ToLower(a.Name.Local)] = a.Value
		}
		switch {
		case strings.EqualFold(start.Name.Local, "aspNetCore"):
			r.mode = CoreOutProcess
			if strings.EqualFold(at["hostingmodel"], "inprocess") {
				r.mode = CoreInProcess
			}
			r.shutdown = 10 * time.Second
			if n, err := strconv.Atoi(at["shutdowntimelimit"]); err == nil && n >= 0 {
				r.shutdown = time.Duration(n) * time.Second
			}
		case strings.EqualFold(start.Name.Local, "hostingEnvironment") && r.mode == Classic:
			if n, err := strconv.Atoi(at["shutdowntimeout"]); err == nil && n >= 0 {
				r.shutdown = time.Duration(n) * time.Second
			}
		case strings.EqualFold(start.Name.Local, "handlerSetting") && strings.EqualFold(at["name"], "disallowRotationOnConfigChange"):
			r.noRotation = strings.EqualFold(at["value"], "true")
		}
	}
}

// instance returns the application of that key in a worker process; one that is not there is started. mu is held.
func (s *Server) instance(w *worker, key appKey, folder string) *instance {
	if inst := w.instances[key]; inst != nil {
		return inst
	}
	inst := &instance{key: key, worker: w, folder: folder, release: readRelease(folder), up: make(chan struct{}), requests: map[*request]struct{}{}}
	w.instances[key] = inst
	if mode := inst.release.mode; mode != Classic {
		if s.q.OneInProcessAppPerWorker == On && (w.inProcess != nil || w.core != Classic && w.core != mode) {
			inst.status = http.StatusInternalServerError // 500.35, or 500.34 if the models differ
			close(inst.up)
			return inst
		}
		if w.core == Classic {
			w.core = mode
		}
		if mode == CoreInProcess {
			w.inProcess = inst
		}
	}
	warm := s.q.WarmPerWorker == On && w.warm[folder]
	s.cfg.Logger.Debug("application starts", "pid", w.pid, "site", key.site, "application", key.path, "folder", folder, "mode", inst.release.mode, "warm", warm)
	s.wg.Go(func() {
		if !warm && !s.sleep(s.ctx, s.cfg.AppStart) {
			return
		}
		h, err := s.open(folder)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.cfg.Logger.Debug("application does not start", "folder", folder, "err", err)
			inst.status = http.StatusInternalServerError // 500.30, 500.19
			if inst.release.mode == CoreOutProcess {
				inst.status = http.StatusBadGateway // 502.5
			}
			s.forget(inst)
		}
		inst.handler = h
		w.warm[folder] = err == nil
		close(inst.up)
		s.wake()
	})
	return inst
}

// open asks the caller for an application; a panic of his is an error.
func (s *Server) open(folder string) (h http.Handler, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if s.cfg.Host != nil {
		if h, err = s.cfg.Host(folder); err == nil && h == nil {
			err = fmt.Errorf("no handler for folder %q", folder)
		}
		return h, err
	}
	return files(folder)
}

// forget takes an instance out of its worker process, so that the next request starts a fresh one.
func (s *Server) forget(inst *instance) {
	w := inst.worker
	if w.instances[inst.key] == inst {
		delete(w.instances, inst.key)
	}
	if w.inProcess == inst && inst.handler == nil {
		w.inProcess, w.core = nil, Classic
	}
}

// limit is how long requests of an instance have when it is shut down alone, its worker process staying; negative: Config.HostingShutdown.
func (inst *instance) limit() time.Duration {
	return inst.release.shutdown
}

// unload shuts the applications of that key in all processes of a pool down, except one of the folder keep.
func (s *Server) unload(p *pool, key appKey, keep string) {
	for w := range p.workers {
		if inst := w.instances[key]; inst != nil && inst.folder != keep {
			s.shut(inst, inst.limit())
		}
	}
}

// shut shuts one application down. One that runs inside the worker process takes that with it: the process is recycled.
func (s *Server) shut(inst *instance, limit time.Duration) {
	w := inst.worker
	if inst.closing {
		return
	}
	if limit < 0 {
		limit = s.cfg.HostingShutdown
	}
	if w.inProcess == inst && w.state == running && w.pool.current == w && w.pool.state == started {
		for r := range inst.requests {
			if r.upgraded {
				r.cutNow()
			}
		}
		s.recycle(w.pool) // it serves until the new process is ready, unless the pool forbids to overlap
		return
	}
	s.closeInstance(inst, limit, inst.release.mode != Classic)
}

// closeInstance ends an application: new requests get another one, the running ones have limit and are then cut; with drop, upgraded
// connections are cut at once.
func (s *Server) closeInstance(inst *instance, limit time.Duration, drop bool) {
	if inst.closing {
		return
	}
	inst.closing = true
	w := inst.worker
	if w.instances[inst.key] == inst {
		delete(w.instances, inst.key)
	}
	if w.inProcess == inst && w.state == launching {
		w.inProcess = nil
	}
	if w.inProcess == nil && !slices.ContainsFunc(slices.Collect(maps.Values(w.instances)), func(o *instance) bool { return o.release.mode != Classic }) {
		w.core = Classic
	}
	s.cfg.Logger.Debug("application ends", "pid", w.pid, "site", inst.key.site, "application", inst.key.path, "requests", len(inst.requests), "limit", limit)
	for r := range inst.requests {
		if drop && r.upgraded {
			r.cutNow()
		}
	}
	w.closing++
	s.wg.Go(func() {
		s.awaitFor(limit, func() bool { return len(inst.requests) == 0 })
		s.mu.Lock()
		for r := range inst.requests {
			r.cutNow()
		}
		w.closing--
		s.wake()
		s.mu.Unlock()
		select { // an application that was still starting is closed when it has
		case <-inst.up:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		h := inst.handler
		s.mu.Unlock()
		if c, ok := h.(io.Closer); ok {
			if err := c.Close(); err != nil {
				s.cfg.Logger.Debug("application closed", "folder", inst.folder, "err", err)
			}
		}
	})
}

// shutCore shuts the ASP.NET Core applications of a site down.
func (s *Server) shutCore(siteID int) {
	s.eachInstance(func(inst *instance) {
		if inst.key.site == siteID && inst.release.mode != Classic {
			s.shut(inst, inst.release.shutdown)
		}
	})
}

// restartCore is what a commit does to ASP.NET Core applications.
func (s *Server) restartCore(old, next *hostConf) {
	farms := old.farms != next.farms
	s.eachInstance(func(inst *instance) {
		if inst.release.mode == Classic {
			return
		}
		own := false
		for _, t := range next.sites {
			if t.id != inst.key.site {
				continue
			}
			name := strings.ToLower(t.name)
			own = old.locations[name] != next.locations[name]
			for _, was := range old.sites {
				if was.id == t.id && was.raw != t.raw && s.q.OwnSiteCommitRotates == On {
					own = true
				}
			}
		}
		switch {
		case inst.release.noRotation && !own:
			if s.q.NoRotationEnds503 == On {
				inst.refusing = true
			}
		case own || farms || s.q.CommitRestartsCoreApps == On:
			s.shut(inst, inst.release.shutdown)
		}
	})
}

// eachInstance calls f for all running applications; f may end them.
func (s *Server) eachInstance(f func(*instance)) {
	for p := range s.everyPool() {
		for w := range p.workers {
			if w.state != running && w.state != launching {
				continue
			}
			for _, inst := range w.instances {
				f(inst)
			}
		}
	}
}

// cutApp cuts what runs in an application and what waits for it.
func (s *Server) cutApp(p *pool, key appKey) {
	for r := range p.queue {
		if r.key == key {
			r.cutNow()
		}
	}
	for w := range p.workers {
		for r := range w.requests {
			if r.key == key {
				r.cutNow()
			}
		}
	}
}
