package iistest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// fullSection is the whole path of a section that may be named by its last part alone.
func fullSection(name string) string {
	switch name {
	case "sites", "applicationPools", "webLimits", "configHistory", "log":
		return "system.applicationHost/" + name
	case "webFarms":
		return name
	case "globalRules", "rules", "outboundRules":
		return "system.webServer/rewrite/" + name
	case "access", "authorization", "requestFiltering":
		return "system.webServer/security/" + name
	case "anonymousAuthentication", "basicAuthentication", "windowsAuthentication":
		return "system.webServer/security/authentication/" + name
	}
	if !strings.Contains(name, "/") {
		return "system.webServer/" + name
	}
	return name
}

// hostOnly tells whether a section can stand in applicationHost.config alone.
func hostOnly(section string) bool {
	return strings.HasPrefix(section, "system.applicationHost/") || section == "webFarms" || strings.HasSuffix(section, "/globalRules")
}

// place is where a set command writes, and how its messages name that.
type place struct {
	file     *file
	location string // of a location element; "": none
	target   string // "MACHINE/WEBROOT/APPHOST/Site"
	commit   string
}

// place finds where the section of a site, application or the machine is committed.
func (r *run) place(section string) (place, error) {
	const host = "MACHINE/WEBROOT/APPHOST"
	p := place{target: host, commit: host}
	id := strings.TrimSuffix(r.id, "/")
	f, err := r.open()
	if err != nil {
		return p, err
	}
	p.file = f
	if id == "" {
		return p, nil
	}
	siteName, rest, _ := strings.Cut(id, "/")
	sites := slices.DeleteFunc(r.sites(f), func(o object) bool { return !strings.EqualFold(o.id, siteName) })
	if len(sites) == 0 {
		return p, noObject("SITE", siteName)
	}
	p.target += "/" + id
	if r.commitPath == "apphost" || hostOnly(section) {
		p.location = id
		return p, nil
	}
	folder := r.rootOf(f, sites[0].id, "/"+rest)
	p.commit = p.target
	p.file, err = openFile(filepath.Join(folder, "web.config"), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<configuration>\r\n</configuration>\r\n")
	return p, err
}

// rootOf is the folder of the application that serves a path.
func (r *run) rootOf(f *file, site, path string) string {
	app, ok := r.appOfPath(f, site, path)
	if !ok {
		return ""
	}
	for _, o := range r.vdirs(f) {
		if name, _ := o.get(f, "APP.NAME"); strings.EqualFold(name, site+app) {
			if at, _ := o.get(f, "path"); at == "/" {
				physical, _ := o.get(f, "physicalPath")
				return r.s.folder(physical)
			}
		}
	}
	return ""
}

func (r *run) appOfPath(f *file, site, path string) (string, bool) {
	kind := r.object
	r.object = "APP"
	defer func() { r.object = kind }()
	id, ok := r.appOf(f, site, path)
	return strings.TrimPrefix(id, site), ok
}

func (r *run) sectionCommand() error {
	name := r.section
	if name == "" {
		if v, ok := r.param("section"); ok {
			name = v
		}
	}
	if name == "" {
		return message(exitInvalidParameter, "Must specify the section to edit with the /section parameter.")
	}
	section := fullSection(name)
	if r.verb == "LIST" || r.verb == "SEARCH" {
		return r.showSection(section)
	}
	p, err := r.place(section)
	if err != nil {
		return err
	}
	at, err := p.section(section)
	if err != nil {
		return err
	}
	if r.verb == "CLEAR" {
		if _, err := p.file.doc.Remove(at.node); err != nil {
			return err
		}
	} else if _, err := r.changeAll(p.file, at); err != nil {
		return err
	}
	return r.commit(p.file, func() {
		r.say("Applied configuration changes to section \"%s\" for \"%s\" at configuration commit path \"%s\"", section, p.target, p.commit)
	})
}

// section is the element of a section at the place; it is made if it is not there.
func (p place) section(path string) (cursor, error) {
	if p.location == "" {
		return p.file.section(path)
	}
	n, ok := cursor{p.file.doc.Root(), &element{item: &element{name: "location", attrs: attrs("path=")}}}.item([][2]string{{"path", p.location}})
	if !ok {
		var err error
		n.node, err = p.file.doc.Insert(p.file.doc.Root(), len(p.file.doc.Root().Children), bytexml.Element{Name: "location", Attrs: [][2]string{{"path", p.location}}})
		if err != nil {
			return cursor{}, err
		}
	}
	at := n.node
	for _, part := range strings.Split(path, "/") {
		next := at.Child(part)
		if next == nil {
			var err error
			if next, err = p.file.doc.Insert(at, len(at.Children), bytexml.Element{Name: part}); err != nil {
				return cursor{}, err
			}
		}
		at = next
	}
	return cursor{at, schemaOf(path)}, nil
}

// showSection prints a section inside its groups, or tells whether it sets a property.
func (r *run) showSection(section string) error {
	f, err := r.open()
	if err != nil {
		return err
	}
	var n *bytexml.Node
	if id := strings.TrimSuffix(r.id, "/"); id != "" { // what is written for the site goes before what is written for all
		for _, l := range f.doc.Root().All("location") {
			if path, _ := l.Attr("path"); strings.EqualFold(path, id) {
				n = below(l, section)
			}
		}
	}
	if n == nil {
		n = find(f.doc, section)
	}
	if r.verb == "SEARCH" {
		for _, p := range r.params {
			if n == nil || !written(cursor{n, schemaOf(section)}, p.path) {
				r.exit = 1
				return nil
			}
		}
		if n != nil {
			r.out.WriteString("CONFIGSEARCH \"MACHINE/WEBROOT/APPHOST\"\n")
		}
		return nil
	}
	parts := strings.Split(section, "/")
	indent := ""
	for _, part := range parts[:len(parts)-1] {
		r.out.WriteString(indent + "<" + part + ">\n")
		indent += "  "
	}
	last := parts[len(parts)-1]
	switch at := (cursor{n, schemaOf(section)}); {
	case n == nil:
		r.out.WriteString(indent + "<" + last + " />\n")
	case r.config == "*" && at.schema != nil:
		fullXML(&r.out, last, at, nil, indent)
	default:
		r.out.WriteString(indent + strings.ReplaceAll(string(f.doc.Raw(n)), "\r\n", "\n") + "\n")
	}
	for i := len(parts) - 2; i >= 0; i-- {
		fmt.Fprintf(&r.out, "%s</%s>\n", strings.Repeat("  ", i), parts[i])
	}
	if r.xml {
		text := r.out.String()
		r.out.Reset()
		r.out.WriteString(r.declaration() + "<appcmd>\n<CONFIG CONFIG.SECTION=\"" + section +
			"\" path=\"MACHINE/WEBROOT/APPHOST\">\n" + text + "</CONFIG>\n</appcmd>\n")
		r.plain = true
	}
	return nil
}

func below(n *bytexml.Node, section string) *bytexml.Node {
	for _, part := range strings.Split(section, "/") {
		if n = n.Child(part); n == nil {
			return nil
		}
	}
	return n
}

// written tells whether a property is set where at is.
func written(at cursor, path string) bool {
	steps, err := readPath(path, false)
	if err != nil {
		return false
	}
	for i, st := range steps {
		if st.index {
			item, ok := at.item(st.keys)
			if !ok {
				return false
			}
			at = item
			continue
		}
		if i == len(steps)-1 {
			if _, ok := at.node.Attr(st.name); ok {
				return true
			}
		}
		next, ok := at.child(st.name)
		if !ok || next.node == nil {
			return false
		}
		at = next
	}
	return true
}
