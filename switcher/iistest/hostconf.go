package iistest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// hostConf is what applicationHost.config says, as far as the runtime follows it.
type hostConf struct {
	sites     []siteConf
	pools     []poolConf
	farms     string            // the raw webFarms section, to see that it changed
	routing   routing           // what ARR does
	locations map[string]string // raw location elements by path
}

type siteConf struct {
	name      string
	id        int
	autoStart bool
	bindings  []binding
	apps      []appConf
	raw       string
}

// binding is one of a site's. Its identity is protocol and information.
type binding struct {
	protocol, info string
	flags          int
}

type appConf struct {
	path, pool string
	preload    bool
	vdirs      []vdirConf
}

type vdirConf struct{ path, physicalPath string }

type poolConf struct {
	name              string
	autoStart         bool
	alwaysRunning     bool
	queueLength       int
	shutdownTimeLimit time.Duration
	idleTimeout       time.Duration
	noOverlap         bool // disallowOverlappingRotation
	noRotation        bool // disallowRotationOnConfigChange
	maxCrashes        int
	raw               string
}

func (b binding) String() string { return b.protocol + "/" + b.info }

// same tells whether two bindings cannot be registered at once.
func (b binding) same(o binding) bool {
	return strings.EqualFold(b.protocol, o.protocol) && strings.EqualFold(b.info, o.info)
}

// web splits the information of an http or https binding. A missing host part and its colon are allowed.
func (b binding) web() (ip string, port int, host string, ok bool) {
	if !strings.EqualFold(b.protocol, "http") && !strings.EqualFold(b.protocol, "https") {
		return "", 0, "", false
	}
	rest := b.info
	if strings.HasPrefix(rest, "[") { // IPv6
		end := strings.IndexByte(rest, ']')
		if end < 0 || !strings.HasPrefix(rest[end+1:], ":") {
			return "", 0, "", false
		}
		ip, rest = rest[1:end], rest[end+2:]
	} else {
		ip, rest, ok = strings.Cut(rest, ":")
		if !ok {
			return "", 0, "", false
		}
	}
	number, host, _ := strings.Cut(rest, ":")
	port, err := strconv.Atoi(number)
	if ip == "" {
		ip = "*"
	}
	return ip, port, strings.ToLower(host), err == nil && port > 0 && port < 65536
}

func (b binding) secure() bool { return strings.EqualFold(b.protocol, "https") }

// root is the folder of an application: that of its root virtual directory, as written.
func (a appConf) root() string {
	for _, v := range a.vdirs {
		if v.path == "/" {
			return v.physicalPath
		}
	}
	return ""
}

// app returns the application of a site at exactly that path.
func (s siteConf) app(path string) (appConf, bool) {
	i := slices.IndexFunc(s.apps, func(a appConf) bool { return strings.EqualFold(a.path, path) })
	if i < 0 {
		return appConf{}, false
	}
	return s.apps[i], true
}

// serving returns the application of a site that serves a URL path: the one with the longest path that leads to it.
func (s siteConf) serving(urlPath string) (appConf, bool) {
	var best appConf
	found := false
	for _, a := range s.apps {
		inside := a.path == "/" || len(urlPath) >= len(a.path) && strings.EqualFold(urlPath[:len(a.path)], a.path) &&
			(len(urlPath) == len(a.path) || urlPath[len(a.path)] == '/')
		if inside && (!found || len(a.path) > len(best.path)) {
			best, found = a, true
		}
	}
	return best, found
}

// readHost reads what the runtime follows out of applicationHost.config. Values that cannot be read are errors, as IIS refuses them.
func readHost(doc *bytexml.Doc) (*hostConf, error) {
	h := &hostConf{locations: map[string]string{}}
	root := doc.Root()
	if root.Name != "configuration" {
		return nil, fmt.Errorf("root element is %q, not configuration", root.Name)
	}
	if f := root.Child("webFarms"); f != nil {
		h.farms = string(doc.Raw(f))
	}
	for _, l := range root.All("location") {
		path, _ := l.Attr("path")
		h.locations[strings.ToLower(path)] += string(doc.Raw(l))
	}
	if pools := find(doc, poolsSection); pools != nil {
		e := poolsSchema()
		for _, n := range pools.All("add") {
			r := reader{doc: doc, defaults: pools.Child("applicationPoolDefaults")}
			p := poolConf{
				name: r.text(e.item, n, "name"), autoStart: r.flag(e.item, n, "autoStart"), alwaysRunning: r.text(e.item, n, "startMode") == "AlwaysRunning",
				queueLength: r.number(e.item, n, "queueLength"), shutdownTimeLimit: r.span(e.item, n, "processModel.shutdownTimeLimit"),
				idleTimeout: r.span(e.item, n, "processModel.idleTimeout"), noOverlap: r.flag(e.item, n, "recycling.disallowOverlappingRotation"),
				noRotation: r.flag(e.item, n, "recycling.disallowRotationOnConfigChange"), raw: string(doc.Raw(n)),
			}
			if r.flag(e.item, n, "failure.rapidFailProtection") {
				p.maxCrashes = r.number(e.item, n, "failure.rapidFailProtectionMaxCrashes")
			}
			if r.defaults != nil {
				p.raw += string(doc.Raw(r.defaults))
			}
			if r.err != nil {
				return nil, fmt.Errorf("application pool %q: %w", p.name, r.err)
			}
			h.pools = append(h.pools, p)
		}
	}
	if sites := find(doc, sitesSection); sites != nil {
		for _, n := range sites.All("site") {
			s, err := readSite(doc, sites, n)
			if err != nil {
				return nil, fmt.Errorf("site %q: %w", s.name, err)
			}
			h.sites = append(h.sites, s)
		}
	}
	var err error
	if h.routing, err = readRouting(doc); err != nil {
		return nil, err
	}
	return h, h.unique()
}

func readSite(doc *bytexml.Doc, sites, n *bytexml.Node) (siteConf, error) {
	siteE := sitesSchema().item
	appE := siteE.item
	r := reader{doc: doc, defaults: sites.Child("siteDefaults")}
	s := siteConf{name: r.text(siteE, n, "name"), id: r.number(siteE, n, "id"), autoStart: r.flag(siteE, n, "serverAutoStart"), raw: string(doc.Raw(n))}
	if bs := n.Child("bindings"); bs != nil {
		for _, b := range bs.All("binding") {
			protocol, _ := b.Attr("protocol")
			info, _ := b.Attr("bindingInformation")
			flags, _ := b.Attr("sslFlags")
			number, _ := strconv.Atoi(cmp.Or(flags, "0"))
			s.bindings = append(s.bindings, binding{protocol, info, number})
		}
	}
	for _, a := range n.All("application") {
		// Defaults of one site go before those of all sites.
		ar := reader{doc: doc, defaults: n.Child("applicationDefaults"), outer: sites.Child("applicationDefaults")}
		app := appConf{path: ar.text(appE, a, "path"), pool: ar.text(appE, a, "applicationPool"), preload: ar.flag(appE, a, "preloadEnabled")}
		for _, v := range a.All("virtualDirectory") {
			path, _ := v.Attr("path")
			physical, _ := v.Attr("physicalPath")
			app.vdirs = append(app.vdirs, vdirConf{path, physical})
		}
		if ar.err != nil {
			return s, ar.err
		}
		if app.pool == "" {
			app.pool = "DefaultAppPool"
		}
		s.apps = append(s.apps, app)
	}
	return s, r.err
}

// unique refuses what configuration cannot hold twice.
func (h *hostConf) unique() error {
	seen := map[string]bool{}
	for _, s := range h.sites {
		for _, key := range []string{"site " + strings.ToLower(s.name), "site id " + strconv.Itoa(s.id)} {
			if seen[key] {
				return fmt.Errorf("%s is there twice", key)
			}
			seen[key] = true
		}
	}
	for _, p := range h.pools {
		key := "application pool " + strings.ToLower(p.name)
		if seen[key] {
			return fmt.Errorf("%s is there twice", key)
		}
		seen[key] = true
	}
	return nil
}

// reader reads attributes of an element, falling back on the elements with defaults, then on the schema. The first error stays.
type reader struct {
	doc             *bytexml.Doc
	defaults, outer *bytexml.Node
	err             error
}

// text reads the attribute at path, such as "processModel.idleTimeout".
func (r *reader) text(e *element, n *bytexml.Node, path string) string {
	parts := strings.Split(path, ".")
	name := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		e = e.child(p)
	}
	a := e.attr(name)
	for _, from := range []*bytexml.Node{n, r.defaults, r.outer} {
		for _, p := range parts[:len(parts)-1] {
			if from != nil {
				from = from.Child(p)
			}
		}
		if from == nil {
			continue
		}
		if v, ok := from.Attr(name); ok {
			v, legal := a.check(v)
			if !legal && r.err == nil {
				r.err = fmt.Errorf("attribute %q: value %q is not valid", name, v)
			}
			return v
		}
	}
	return a.zero
}

func (r *reader) flag(e *element, n *bytexml.Node, path string) bool {
	return r.text(e, n, path) == "true"
}

func (r *reader) number(e *element, n *bytexml.Node, path string) int {
	v, _ := strconv.Atoi(r.text(e, n, path))
	return v
}

func (r *reader) span(e *element, n *bytexml.Node, path string) time.Duration {
	d, _ := parseSpan(r.text(e, n, path))
	return d
}

// find returns the element at a section path, nil if it is not there.
func find(doc *bytexml.Doc, section string) *bytexml.Node {
	n := doc.Root()
	for _, part := range strings.Split(section, "/") {
		if n = n.Child(part); n == nil {
			return nil
		}
	}
	return n
}
