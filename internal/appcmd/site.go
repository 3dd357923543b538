package appcmd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// State is the running state of a site or a pool. It is not configuration.
type State string

// The states. What is shown otherwise, or not at all, is Unknown, and never means Stopped.
const (
	Unknown  State = "Unknown"
	Starting State = "Starting"
	Started  State = "Started"
	Stopping State = "Stopping"
	Stopped  State = "Stopped"
)

// parseState takes names in any case, and the numbers that the runtime interface has for them.
func parseState(s string) State {
	s, _, _ = strings.Cut(s, ",")
	s = strings.TrimSpace(s)
	for i, st := range []State{Starting, Started, Stopping, Stopped} {
		if strings.EqualFold(s, string(st)) || s == strconv.Itoa(i) {
			return st
		}
	}
	return Unknown
}

// Site is a site, with its applications and all else that is configuration where it was listed with it.
type Site struct {
	Name            string        `json:"name"`
	ID              uint32        `json:"id"`
	State           State         `json:"state"` // Unknown if it was read from configuration alone
	Bindings        []Binding     `json:"bindings,omitempty"`
	ServerAutoStart bool          `json:"serverAutoStart"` // true, the default of IIS, where it is not shown
	Applications    []Application `json:"applications,omitempty"`
	Config          *Element      `json:"-"` // the element <site>; nil: it was listed without configuration
}

// App returns the application at path, "/" for the root; nil if there is none.
func (s Site) App(path string) *Application {
	for i := range s.Applications {
		if strings.EqualFold(s.Applications[i].Path, path) {
			return &s.Applications[i]
		}
	}
	return nil
}

// Root returns the root application and its root virtual directory; nil where there is none.
func (s Site) Root() (*Application, *VDir) {
	app := s.App("/")
	if app == nil {
		return nil, nil
	}
	return app, app.VDir("/")
}

// Application is an application of a site.
type Application struct {
	Path             string   `json:"path"`
	Pool             string   `json:"pool"` // "": not shown, it is the default of the server
	EnabledProtocols string   `json:"enabledProtocols,omitempty"`
	PreloadEnabled   bool     `json:"preloadEnabled"`
	VDirs            []VDir   `json:"vdirs,omitempty"`
	Config           *Element `json:"-"`
}

// VDir returns the virtual directory at path; nil if there is none.
func (a Application) VDir(path string) *VDir {
	for i := range a.VDirs {
		if strings.EqualFold(a.VDirs[i].Path, path) {
			return &a.VDirs[i]
		}
	}
	return nil
}

// VDir is a virtual directory of an application.
type VDir struct {
	Path         string   `json:"path"`
	PhysicalPath string   `json:"physicalPath"` // as it is written, with environment variables not expanded
	UserName     string   `json:"userName,omitempty"`
	Config       *Element `json:"-"`
}

// App is an application as "list app" shows it.
type App struct {
	Site string `json:"site"`
	Path string `json:"path"`
	Pool string `json:"pool"`
}

// Directory is a virtual directory as "list vdir" shows it.
type Directory struct {
	Name         string `json:"name"` // "Site/", "Site/app/files"
	PhysicalPath string `json:"physicalPath"`
}

// Binding is where a site listens.
type Binding struct {
	Protocol         string `json:"protocol"`           // as it is written: http, HTTP, https, net.tcp
	Information      string `json:"information"`        // for http and https address:port:host, "*:80:"
	SSLFlags         uint32 `json:"sslFlags,omitempty"` // 1: SNI, 2: central store, ...; 0 also where it is not shown
	CertificateHash  string `json:"certificateHash,omitempty"`
	CertificateStore string `json:"certificateStore,omitempty"`
}

// String returns the binding as appcmd writes it: http/*:80:.
func (b Binding) String() string { return b.Protocol + "/" + b.Information }

// Same reports whether b and c are one binding to IIS: equal protocol and information, without regard to case.
func (b Binding) Same(c Binding) bool {
	return strings.EqualFold(b.Protocol, c.Protocol) && strings.EqualFold(strings.TrimRight(b.Information, ":"), strings.TrimRight(c.Information, ":"))
}

// HTTP reports whether it is a binding of http or https.
func (b Binding) HTTP() bool {
	return strings.EqualFold(b.Protocol, "http") || strings.EqualFold(b.Protocol, "https")
}

// Split takes the information of an http or https binding apart: the address ("*" for all; IPv6 without its brackets), the port, and the
// host name ("" for any). A missing last colon is as good as one.
func (b Binding) Split() (address string, port uint16, host string, err error) {
	info := b.Information
	if rest, ok := strings.CutPrefix(info, "["); ok {
		if address, info, ok = strings.Cut(rest, "]"); !ok || !strings.HasPrefix(info, ":") {
			return "", 0, "", fmt.Errorf("binding %q: want address:port:host", b)
		}
		info = info[1:]
	} else if address, info, ok = strings.Cut(info, ":"); !ok {
		return "", 0, "", fmt.Errorf("binding %q: want address:port:host", b)
	}
	text, host, _ := strings.Cut(info, ":")
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || !b.HTTP() {
		return "", 0, "", fmt.Errorf("binding %q: want address:port:host of http or https", b)
	}
	if address == "" {
		address = "*"
	}
	return address, uint16(n), host, nil
}

var nextBinding = regexp.MustCompile(`,\s*[A-Za-z][A-Za-z0-9.+\-]*/`)

// parseBindings reads "http/*:80:,https/*:443:www.example.test".
func parseBindings(s string) ([]Binding, error) {
	var all []Binding
	for s = strings.TrimSpace(s); s != ""; {
		one := s
		if at := nextBinding.FindStringIndex(s); at != nil {
			one, s = s[:at[0]], strings.TrimLeft(s[at[0]+1:], " ")
		} else {
			s = ""
		}
		protocol, info, ok := strings.Cut(one, "/")
		if !ok || protocol == "" {
			return nil, fmt.Errorf("binding %q: %w", one, ErrMalformed)
		}
		all = append(all, Binding{Protocol: protocol, Information: info})
	}
	return all, nil
}
