package folder

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Hosting models of an ASP.NET Core application.
const (
	InProcess    = "inprocess"
	OutOfProcess = "outofprocess"
)

// WebConfig is what a web.config says of the things that matter in a switch. Zero values of pointers mean that it says nothing.
type WebConfig struct {
	AspNetCore *AspNetCore // nil: no ASP.NET Core application

	// What holds for the whole application first, then what holds for one path, in the order of the file.
	Limits []PathLimits

	// What follows is told of the whole application alone.

	Initialization *Initialization // nil: none

	HostingShutdown *time.Duration // <hostingEnvironment shutdownTimeout>: how long the old application may finish its requests; documented default 30s
	RuntimeShutdown *time.Duration // <httpRuntime shutdownTimeout>; documented default 90s
	Debug           bool           // <compilation debug="true">: executionTimeout is not in force

	External   []string // sections that lie in a file of their own (configSource), which is not read: "system.web/httpRuntime"
	Transforms bool     // it holds instructions for a transformation, which was not applied
}

// AspNetCore is the <aspNetCore> element.
type AspNetCore struct {
	Path         string // of the <location> it stands in; "": the whole application
	ProcessPath  string
	Arguments    string
	HostingModel string // InProcess or OutOfProcess; without the attribute it is OutOfProcess
	Module       string // of its handler: "AspNetCoreModuleV2"; "": no handler is named

	StdoutLogEnabled bool
	StdoutLogFile    string // "": the default, aspnetcore-stdout

	RequestTimeout    time.Duration // of an answer, out of process alone; default 2m
	ShutdownTimeLimit time.Duration // how long the application may take to stop; default 10s
	StartupTimeLimit  time.Duration // default 2m

	// DisallowRotationOnConfigChange: with it only changes that matter to the application's own path restart it (.NET 7 and later).
	// Without it any commit of the machine's configuration does.
	DisallowRotationOnConfigChange bool
	ShutdownDelay                  *time.Duration // nil: not set; the module's own default is reported to be 1s
	ShadowCopy                     bool           // enableShadowCopy, or its experimental name
	ShadowCopyDirectory            string
	Settings                       map[string]string // all handler settings, as they stand there
}

// PathLimits are what bounds requests below one path. Nil: not set there.
type PathLimits struct {
	Path                    string         // of the <location>; "": the whole application
	MaxAllowedContentLength *int64         // bytes, IIS itself; default 30,000,000
	MaxRequestLength        *int64         // bytes (the file has KiB), ASP.NET; default 4 MiB
	ExecutionTimeout        *time.Duration // ASP.NET, unless Debug; default 110s
}

// Initialization is the <applicationInitialization> element.
type Initialization struct {
	AfterRestart bool     // doAppInitAfterRestart
	SkipManaged  bool     // skipManagedModules
	Pages        []string // to be asked at the start
	RemapTo      string   // remapManagedRequestsTo: what is answered to everybody until it is done
}

// ParseWebConfig reads a web.config. The error tells all that is wrong with it: text that is not well-formed XML, where IIS would answer
// 500.19 to everything, and values that are none. What could be read is returned beside it.
func ParseWebConfig(data []byte) (*WebConfig, error) {
	p := &parser{conf: &WebConfig{}}
	text, err := decode(data)
	if err != nil {
		return p.conf, err
	}
	err = p.parse(text)
	p.finish()
	return p.conf, multi.Join(append(p.errs, err)...)
}

type parser struct {
	conf     *WebConfig
	errs     []error
	path     []string // names of the open elements
	location string   // of the <location> that is open
	handler  []struct{ name, path, modules string }
}

const transformSpace = "http://schemas.microsoft.com/XML-Document-Transform"

// parse walks the whole text: what stands behind an error is not looked at.
func (p *parser) parse(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = charset
	seen := false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("web.config is not well-formed: %w", err)
		}
		line, _ := d.InputPos()
		switch tok := tok.(type) {
		case xml.StartElement:
			if len(p.path) == 0 {
				if seen {
					return fmt.Errorf("web.config is not well-formed: line %d: a second element <%s> stands beside the first", line, tok.Name.Local)
				}
				if tok.Name.Local != "configuration" {
					return fmt.Errorf("web.config: line %d: its element is <%s>, not <configuration>", line, tok.Name.Local)
				}
				seen = true
			}
			if err := twice(tok.Attr); err != nil {
				return fmt.Errorf("web.config is not well-formed: line %d: %w", line, err)
			}
			p.path = append(p.path, tok.Name.Local)
			p.start(line, tok)
		case xml.EndElement:
			if len(p.path) == 2 && p.path[1] == "location" {
				p.location = ""
			}
			p.path = p.path[:len(p.path)-1]
		case xml.CharData:
			if len(p.path) == 0 && len(bytes.TrimSpace(tok)) > 0 {
				return fmt.Errorf("web.config is not well-formed: line %d: text stands outside of <configuration>", line)
			}
		case xml.Directive:
			return fmt.Errorf("web.config: line %d: it holds a document type, which IIS does not read", line)
		}
	}
	if !seen {
		return errors.New("web.config is not well-formed: it holds no element")
	}
	return nil
}

// twice refuses attributes that stand there twice, as XML does and the decoder does not.
func twice(attrs []xml.Attr) error {
	seen := make(map[xml.Name]bool, len(attrs))
	for _, a := range attrs {
		if seen[a.Name] {
			return fmt.Errorf("attribute %q stands there twice", a.Name.Local)
		}
		seen[a.Name] = true
	}
	return nil
}

// start looks at one element. p.path ends with it.
func (p *parser) start(line int, tok xml.StartElement) {
	a := attrs{p: p, line: line, element: tok.Name.Local, values: map[string]string{}}
	for _, at := range tok.Attr {
		if at.Name.Space == transformSpace || at.Name.Space == "xdt" {
			p.conf.Transforms = true
		}
		if at.Name.Space == "" {
			a.values[at.Name.Local] = at.Value
		}
	}
	below := p.path[1:]
	if len(below) > 0 && below[0] == "location" {
		if len(below) == 1 {
			p.location = strings.Trim(a.values["path"], "/")
			if p.location == "." {
				p.location = ""
			}
			return
		}
		below = below[1:]
	}
	section := strings.Join(below, "/")
	if a.values["configSource"] != "" {
		p.conf.External = append(p.conf.External, section)
	}
	whole := p.location == ""
	switch section {
	case "system.webServer/aspNetCore":
		p.core(a)
	case "system.webServer/aspNetCore/handlerSettings/handlerSetting":
		if c := p.conf.AspNetCore; c != nil && c.Path == p.location {
			c.Settings[a.values["name"]] = a.values["value"]
		}
	case "system.webServer/handlers/add":
		if strings.HasPrefix(strings.ToLower(a.values["modules"]), "aspnetcoremodule") {
			p.handler = append(p.handler, struct{ name, path, modules string }{a.values["name"], p.location, a.values["modules"]})
		}
	case "system.webServer/security/requestFiltering/requestLimits":
		p.limits().MaxAllowedContentLength = a.number("maxAllowedContentLength", 1)
	case "system.web/httpRuntime":
		l := p.limits()
		l.MaxRequestLength = a.number("maxRequestLength", 1024)
		l.ExecutionTimeout = a.duration("executionTimeout", time.Second)
		if d := a.duration("shutdownTimeout", time.Second); whole {
			p.conf.RuntimeShutdown = d
		}
	case "system.web/hostingEnvironment":
		if d := a.duration("shutdownTimeout", time.Second); whole {
			p.conf.HostingShutdown = d
		}
	case "system.web/compilation":
		p.conf.Debug = a.flag("debug") && whole || p.conf.Debug
	case "system.webServer/applicationInitialization":
		if !whole {
			return
		}
		p.conf.Initialization = &Initialization{AfterRestart: a.flag("doAppInitAfterRestart"), SkipManaged: a.flag("skipManagedModules"),
			RemapTo: a.values["remapManagedRequestsTo"]}
	case "system.webServer/applicationInitialization/add":
		if i := p.conf.Initialization; whole && i != nil && a.values["initializationPage"] != "" {
			i.Pages = append(i.Pages, a.values["initializationPage"])
		}
	}
}

// core reads <aspNetCore>. One for the whole application wins over one for a path.
func (p *parser) core(a attrs) {
	c := &AspNetCore{Path: p.location, ProcessPath: a.values["processPath"], Arguments: a.values["arguments"], HostingModel: OutOfProcess,
		StdoutLogEnabled: a.flag("stdoutLogEnabled"), StdoutLogFile: a.values["stdoutLogFile"],
		RequestTimeout: a.or("requestTimeout", 0, 2*time.Minute), ShutdownTimeLimit: a.or("shutdownTimeLimit", time.Second, 10*time.Second),
		StartupTimeLimit: a.or("startupTimeLimit", time.Second, 2*time.Minute), Settings: map[string]string{}}
	if m, ok := a.values["hostingModel"]; ok {
		switch model := strings.ToLower(m); model {
		case InProcess, OutOfProcess:
			c.HostingModel = model
		default:
			a.bad("hostingModel", "one of InProcess and OutOfProcess")
		}
	}
	if old := p.conf.AspNetCore; old == nil || old.Path != "" && c.Path == "" {
		p.conf.AspNetCore = c
	}
}

// limits returns the limits of the open location.
func (p *parser) limits() *PathLimits {
	for n := range p.conf.Limits {
		if strings.EqualFold(p.conf.Limits[n].Path, p.location) {
			return &p.conf.Limits[n]
		}
	}
	p.conf.Limits = append(p.conf.Limits, PathLimits{Path: p.location})
	return &p.conf.Limits[len(p.conf.Limits)-1]
}

// finish reads what can be told only at the end.
func (p *parser) finish() {
	for n, l := range p.conf.Limits { // the whole application first
		if l.Path == "" && n > 0 {
			copy(p.conf.Limits[1:], p.conf.Limits[:n])
			p.conf.Limits[0] = l
			break
		}
	}
	c := p.conf.AspNetCore
	if c == nil {
		return
	}
	for _, h := range p.handler {
		if c.Module == "" && (h.path == c.Path || h.path == "") {
			c.Module = h.modules
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Settings)) {
		value := c.Settings[name]
		a := attrs{p: p, element: "handlerSetting", values: map[string]string{name: value}}
		switch strings.ToLower(name) {
		case "disallowrotationonconfigchange":
			c.DisallowRotationOnConfigChange = a.flag(name)
		case "enableshadowcopy", "experimentalenableshadowcopy":
			c.ShadowCopy = c.ShadowCopy || a.flag(name)
		case "shadowcopydirectory":
			c.ShadowCopyDirectory = value
		case "shutdowndelay":
			c.ShutdownDelay = a.duration(name, time.Millisecond)
		}
	}
}

// attrs are the attributes of one element.
type attrs struct {
	p       *parser
	line    int
	element string
	values  map[string]string
}

func (a attrs) bad(name, want string) {
	where := ""
	if a.line > 0 {
		where = fmt.Sprintf("line %d: ", a.line)
	}
	a.p.errs = append(a.p.errs, fmt.Errorf("web.config: %s<%s> has %s=%q: it is to be %s", where, a.element, name, a.values[name], want))
}

func (a attrs) flag(name string) bool {
	switch v, ok := a.values[name]; strings.ToLower(strings.TrimSpace(v)) {
	case "true", "1":
		return true
	case "false", "0":
	default:
		if ok {
			a.bad(name, "true or false")
		}
	}
	return false
}

func (a attrs) number(name string, unit int64) *int64 {
	v, ok := a.values[name]
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		a.bad(name, "a number")
		return nil
	}
	n *= unit
	return &n
}

// duration reads a number of units, or h:m:s with days before it, if they stand there: 00:02:00, 1.00:00:00. A unit of 0 wants the latter.
func (a attrs) duration(name string, unit time.Duration) *time.Duration {
	v, ok := a.values[name]
	if !ok {
		return nil
	}
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && unit > 0 && n >= 0 && n <= int64(1<<62/unit) {
		d := time.Duration(n) * unit
		return &d
	}
	if d, ok := span(v); ok {
		return &d
	}
	a.bad(name, "a time")
	return nil
}

func (a attrs) or(name string, unit, def time.Duration) time.Duration {
	if d := a.duration(name, unit); d != nil {
		return *d
	}
	return def
}

// span reads d.h:m:s.
func span(s string) (time.Duration, bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	days, hours, ok := strings.Cut(parts[0], ".")
	if !ok {
		days, hours = "0", parts[0]
	}
	var d time.Duration
	for _, p := range []struct {
		text string
		most uint64
		unit time.Duration
	}{{days, 10_000, 24 * time.Hour}, {hours, 23, time.Hour}, {parts[1], 59, time.Minute}, {parts[2], 59, time.Second}} {
		n, err := strconv.ParseUint(p.text, 10, 32)
		if err != nil || n > p.most {
			return 0, false
		}
		d += time.Duration(n) * p.unit
	}
	return d, true
}
