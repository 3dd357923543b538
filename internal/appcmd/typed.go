package appcmd

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// number reads an unsigned number; what: for the error, which does not show the text.
func number(what, s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is no number: %w", what, ErrMalformed)
	}
	return uint32(n), nil
}

// Sites returns the SITE objects of d, and bare elements <site>, as list site /config prints them without /xml.
func (d *Document) Sites() ([]Site, error) {
	all, err := SitesOf(&Element{Children: d.Sections})
	if err != nil {
		return nil, err
	}
	err = d.each("SITE", func(e Entry) error {
		config := e.child("site")
		s := Site{ServerAutoStart: true}
		if config != nil {
			var err error
			if s, err = siteOf(config); err != nil {
				return err
			}
		}
		if name, ok := e.Get("SITE.NAME", "name"); ok && name != "" {
			s.Name = name
		} else if e.Name != "" {
			s.Name = e.Name
		}
		if s.Name == "" {
			return fmt.Errorf("no name: %w", ErrMalformed)
		}
		if id := e.get("SITE.ID", "id"); id != "" {
			n, err := number("id", id)
			if err != nil {
				return err
			}
			s.ID = n
		}
		if s.ID == 0 {
			return fmt.Errorf("%q has no id: %w", s.Name, ErrMalformed)
		}
		s.State = parseState(e.get("state"))
		if v, ok := e.Get("bindings"); ok && (config == nil || config.Child("bindings") == nil) {
			var err error
			if s.Bindings, err = parseBindings(v); err != nil {
				return fmt.Errorf("%q: %w", s.Name, err)
			}
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// SitesOf returns the sites in the section system.applicationHost/sites. Their State is Unknown: it is not configuration.
func SitesOf(section *Element) ([]Site, error) {
	var all []Site
	for _, e := range section.All("site") {
		s, err := siteOf(e)
		if err == nil && (s.Name == "" || s.ID == 0) {
			err = fmt.Errorf("a site %q with id %d: %w", s.Name, s.ID, ErrMalformed)
		}
		if err != nil {
			return nil, fmt.Errorf("section of sites: %w", err)
		}
		all = append(all, s)
	}
	return all, nil
}

func siteOf(e *Element) (Site, error) {
	s := Site{Name: e.Get("name"), State: Unknown, ServerAutoStart: e.Bool("serverAutoStart", true), Config: e}
	if id, ok := e.Attr("id"); ok {
		n, err := number("id of a site", id)
		if err != nil {
			return s, err
		}
		s.ID = n
	}
	for _, b := range e.Child("bindings").All("binding") {
		x := Binding{Protocol: b.Get("protocol"), Information: b.Get("bindingInformation"), CertificateHash: b.Get("certificateHash"),
			CertificateStore: b.Get("certificateStoreName")}
		if x.Protocol == "" {
			return s, fmt.Errorf("site %q has a binding without protocol: %w", s.Name, ErrMalformed)
		}
		if flags, ok := b.Attr("sslFlags"); ok {
			n, err := sslFlags(flags)
			if err != nil {
				return s, fmt.Errorf("site %q: %w", s.Name, err)
			}
			x.SSLFlags = n
		}
		s.Bindings = append(s.Bindings, x)
	}
	for _, a := range e.All("application") {
		app := Application{Path: a.Get("path"), Pool: a.Get("applicationPool"), EnabledProtocols: a.Get("enabledProtocols"),
			PreloadEnabled: a.Bool("preloadEnabled", false), Config: a}
		for _, v := range a.All("virtualDirectory") {
			app.VDirs = append(app.VDirs, VDir{Path: v.Get("path"), PhysicalPath: v.Get("physicalPath"), UserName: v.Get("userName"), Config: v})
		}
		s.Applications = append(s.Applications, app)
	}
	return s, nil
}

// sslFlags reads a number, or the names that newer versions print.
func sslFlags(s string) (uint32, error) {
	if n, err := number("sslFlags", s); err == nil {
		return n, nil
	}
	var all uint32
	for f := range strings.SplitSeq(s, ",") {
		switch strings.ToLower(strings.TrimSpace(f)) {
		case "", "none":
		case "sni":
			all |= 1
		case "centralcertstore":
			all |= 2
		case "disablehttp2":
			all |= 4
		case "disableocspstp":
			all |= 8
		default:
			return 0, fmt.Errorf("sslFlags %q: %w", s, ErrMalformed)
		}
	}
	return all, nil
}

// Apps returns the APP objects of d.
func (d *Document) Apps() ([]App, error) {
	var all []App
	err := d.each("APP", func(e Entry) error {
		name := e.Name
		if v, ok := e.Get("APP.NAME"); ok {
			name = v
		}
		a := App{Site: e.get("SITE.NAME"), Path: e.get("path"), Pool: e.get("APPPOOL.NAME", "applicationPool")}
		if i := strings.IndexByte(name, '/'); i >= 0 {
			if a.Site == "" {
				a.Site = name[:i]
			}
			if a.Path == "" {
				a.Path = name[i:]
			}
		}
		if a.Site == "" || a.Path == "" {
			return fmt.Errorf("no name of site and path: %w", ErrMalformed)
		}
		all = append(all, a)
		return nil
	})
	return all, err
}

// VDirs returns the VDIR objects of d.
func (d *Document) VDirs() ([]Directory, error) {
	var all []Directory
	err := d.each("VDIR", func(e Entry) error {
		v := Directory{Name: e.Name}
		if name, ok := e.Get("VDIR.NAME"); ok {
			v.Name = name
		}
		if v.Name == "" {
			return fmt.Errorf("no name: %w", ErrMalformed)
		}
		v.PhysicalPath, _ = e.Get("physicalPath")
		all = append(all, v)
		return nil
	})
	return all, err
}

// Pools returns the APPPOOL objects of d, and bare elements <add>, as list apppool /config prints them without /xml.
func (d *Document) Pools() ([]Pool, error) {
	all, err := PoolsOf(&Element{Children: d.Sections})
	if err != nil {
		return nil, err
	}
	err = d.each("APPPOOL", func(e Entry) error {
		p, err := poolOf(e.child("add"))
		if err != nil {
			return err
		}
		if name, ok := e.Get("APPPOOL.NAME", "name"); ok && name != "" {
			p.Name = name
		} else if e.Name != "" {
			p.Name = e.Name
		}
		if p.Name == "" {
			return fmt.Errorf("no name: %w", ErrMalformed)
		}
		p.State = parseState(e.get("state"))
		if v := e.get("PipelineMode", "MgdMode", "managedPipelineMode"); v != "" {
			p.PipelineMode = v
		}
		if v, ok := e.Get("RuntimeVersion", "MgdVersion", "managedRuntimeVersion"); ok {
			p.RuntimeVersion = v
		}
		if v := e.get("startMode"); v != "" && !p.Config.has("startMode") {
			p.StartMode = v
		}
		if strings.EqualFold(p.PipelineMode, "ISAPI") { // what it was called before the release
			p.PipelineMode = "Classic"
		}
		all = append(all, p)
		return nil
	})
	return all, err
}

// PoolsOf returns the pools in the section system.applicationHost/applicationPools. Their State is Unknown: it is not configuration.
func PoolsOf(section *Element) ([]Pool, error) {
	var all []Pool
	for _, e := range section.All("add") {
		p, err := poolOf(e)
		if err == nil && p.Name == "" {
			err = fmt.Errorf("a pool without a name: %w", ErrMalformed)
		}
		if err != nil {
			return nil, fmt.Errorf("section of application pools: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// poolOf reads an element <add>; nil: all defaults.
func poolOf(e *Element) (Pool, error) {
	p := defaultPool()
	if p.Config = e; e == nil {
		return p, nil
	}
	p.Name = e.Get("name")
	var err error
	text := func(at *Element, name string, to *string) {
		if v, ok := at.Attr(name); ok {
			*to = v
		}
	}
	count := func(at *Element, name string, to *uint32) {
		if v, ok := at.Attr(name); ok && err == nil {
			*to, err = number(name, v)
		}
	}
	span := func(at *Element, name string, to *time.Duration) {
		if v, ok := at.Attr(name); ok && err == nil {
			*to, err = ParseTimeSpan(v)
		}
	}
	process, recycling := e.Child("processModel"), e.Child("recycling")
	text(e, "managedPipelineMode", &p.PipelineMode)
	text(e, "managedRuntimeVersion", &p.RuntimeVersion)
	text(e, "startMode", &p.StartMode)
	count(e, "queueLength", &p.QueueLength)
	count(process, "maxProcesses", &p.MaxProcesses)
	span(process, "shutdownTimeLimit", &p.ShutdownTimeLimit)
	span(process, "startupTimeLimit", &p.StartupTimeLimit)
	span(process, "idleTimeout", &p.IdleTimeout)
	span(recycling.Child("periodicRestart"), "time", &p.PeriodicRestart)
	p.AutoStart = e.Bool("autoStart", p.AutoStart)
	p.DisallowOverlappingRotation = recycling.Bool("disallowOverlappingRotation", false)
	p.DisallowRotationOnConfigChange = recycling.Bool("disallowRotationOnConfigChange", false)
	if err != nil {
		return p, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	return p, nil
}

// WorkerProcesses returns the WP objects of d.
func (d *Document) WorkerProcesses() ([]WorkerProcess, error) {
	var all []WorkerProcess
	err := d.each("WP", func(e Entry) error {
		pid := e.Name
		if v, ok := e.Get("WP.NAME", "pid", "processId"); ok {
			pid = v
		}
		n, err := number("process id", pid)
		if err != nil {
			return err
		}
		all = append(all, WorkerProcess{PID: int(n), Pool: e.get("APPPOOL.NAME", "applicationPool", "apppool")})
		return nil
	})
	return all, err
}

// Requests returns the REQUEST objects of d.
func (d *Document) Requests() ([]Request, error) {
	var all []Request
	err := d.each("REQUEST", func(e Entry) error {
		r := Request{ID: strings.TrimSpace(e.Name), Pool: e.get("APPPOOL.NAME", "applicationPool", "appPool"), Verb: e.get("Verb", "method"),
			Client: e.get("ClientIp", "ClientIPAddress", "client", "clientIPAddr"), Stage: e.get("Stage", "PipelineState", "PipeLineState"),
			Module: e.get("Module", "ModuleName", "CurrentModule")}
		if v := e.get("REQUEST.NAME", "REQUEST.ID", "requestId"); v != "" {
			r.ID = v
		}
		r.URL, _ = e.Get("Url")
		if verb, url, ok := strings.Cut(r.URL, " "); ok && r.Verb == "" && strings.HasPrefix(url, "/") {
			r.Verb, r.URL = verb, url
		}
		if v := e.get("SITE.ID", "siteId"); v != "" {
			n, err := number("id of the site", v)
			if err != nil {
				return err
			}
			r.SiteID = n
		}
		if v := e.get("WP.NAME", "pid", "processId"); v != "" {
			n, err := number("process id", v)
			if err != nil {
				return err
			}
			r.PID = int(n)
		}
		if v := e.get("Time", "TimeElapsed", "TIME.ELAPSED", "ElapsedTime"); v != "" {
			v, _, _ = strings.Cut(v, " ") // "30465 msec"
			ms, err := strconv.ParseInt(v, 10, 64)
			if err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
				return fmt.Errorf("time is no number: %w", ErrMalformed)
			}
			r.Time = time.Duration(ms) * time.Millisecond
		}
		all = append(all, r)
		return nil
	})
	return all, err
}

// Backups returns the BACKUP objects of d.
func (d *Document) Backups() ([]Backup, error) {
	var all []Backup
	err := d.each("BACKUP", func(e Entry) error {
		b := Backup{Name: e.Name}
		if v, ok := e.Get("BACKUP.NAME", "name"); ok {
			b.Name = v
		}
		if b.Name == "" {
			return fmt.Errorf("no name: %w", ErrMalformed)
		}
		all = append(all, b)
		return nil
	})
	return all, err
}
