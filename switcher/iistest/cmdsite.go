package iistest

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// bindingsText is the bindings of a site as appcmd shows them.
func bindingsText(site *bytexml.Node) string {
	var all []string
	if bs := site.Child("bindings"); bs != nil {
		for _, b := range bs.All("binding") {
			protocol, _ := b.Attr("protocol")
			info, _ := b.Attr("bindingInformation")
			all = append(all, protocol+"/"+info)
		}
	}
	return strings.Join(all, ",")
}

func attrOf(n *bytexml.Node, name string) string {
	v, _ := n.Attr(name)
	return v
}

// stateOf is the state of a site as a command sees it.
func (s *Server) stateOf(id int, name string) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.sites[id]
	if !s.up || s.elevation != Elevated || t == nil || !strings.EqualFold(t.conf.name, name) {
		return unknown
	}
	return t.state
}

// sites lists the sites of a file.
func (r *run) sites(f *file) []object {
	section := find(f.doc, sitesSection)
	if section == nil {
		return nil
	}
	var all []object
	for _, n := range section.All("site") {
		name, id := attrOf(n, "name"), attrOf(n, "id")
		number, _ := strconv.Atoi(id)
		state := r.s.stateOf(number, name).String()
		bindings := bindingsText(n)
		all = append(all, object{
			tag: "SITE", id: name, short: [][2]string{{"id", id}, {"bindings", bindings}, {"state", state}},
			attrs: [][2]string{{"SITE.NAME", name}, {"SITE.ID", id}, {"bindings", bindings}, {"state", state}},
			at:    cursor{n, sitesSchema().item}, zero: section.Child("siteDefaults"),
		})
	}
	return all
}

// apps lists the applications of a file.
func (r *run) apps(f *file) []object {
	section := find(f.doc, sitesSection)
	if section == nil {
		return nil
	}
	var all []object
	for _, site := range section.All("site") {
		name := attrOf(site, "name")
		zero := section.Child("applicationDefaults")
		if own := site.Child("applicationDefaults"); own != nil {
			zero = own
		}
		for _, n := range site.All("application") {
			path := attrOf(n, "path")
			at := cursor{n, sitesSchema().item.item}
			pool, _ := f.value(at, zero, "applicationPool")
			if pool == "" {
				pool = "DefaultAppPool"
			}
			all = append(all, object{
				tag: "APP", id: name + path, short: [][2]string{{"applicationPool", pool}},
				attrs: [][2]string{{"path", path}, {"APP.NAME", name + path}, {"APPPOOL.NAME", pool}, {"SITE.NAME", name}}, at: at, zero: zero,
			})
		}
	}
	return all
}

// vdirs lists the virtual directories of a file.
func (r *run) vdirs(f *file) []object {
	section := find(f.doc, sitesSection)
	if section == nil {
		return nil
	}
	var all []object
	for _, site := range section.All("site") {
		for _, app := range site.All("application") {
			for _, n := range app.All("virtualDirectory") {
				path, physical := attrOf(n, "path"), attrOf(n, "physicalPath")
				name := attrOf(site, "name")
				appName := name + attrOf(app, "path")
				id := strings.TrimSuffix(appName, "/") + path
				all = append(all, object{
					tag: "VDIR", id: id, short: [][2]string{{"physicalPath", physical}},
					attrs: [][2]string{{"physicalPath", physical}, {"path", path}, {"APP.NAME", appName}, {"VDIR.NAME", id}},
					at:    cursor{n, sitesSchema().item.item.item}, zero: section.Child("virtualDirectoryDefaults"),
				})
			}
		}
	}
	return all
}

// named leaves the objects that the command's identifier means: a name, or for sites and applications a URL.
func (r *run) named(all []object) []object {
	if !r.hasID {
		return all
	}
	if u, err := url.Parse(r.id); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return r.reached(all, u)
	}
	return slices.DeleteFunc(all, func(o object) bool { return !strings.EqualFold(o.id, r.id) })
}

// reached leaves the site or application that serves a URL.
func (r *run) reached(all []object, u *url.URL) []object {
	host := u.Host
	if u.Port() == "" {
		host += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	at, err := emulatedEndpoint(host)
	if err != nil {
		return nil
	}
	r.s.mu.Lock()
	t := r.s.match(at, u.Scheme == "https", u.Host)
	r.s.mu.Unlock()
	if t == nil {
		return nil
	}
	want := t.conf.name
	if r.object != "SITE" {
		app, _ := t.conf.serving(u.Path)
		want += app.path
	}
	return slices.DeleteFunc(all, func(o object) bool { return !strings.EqualFold(o.id, want) })
}

// one finds the object that a changing command means.
func (r *run) one(all []object) (object, error) {
	if !r.hasID {
		return object{}, mustSpecify(r.object)
	}
	found := r.named(all)
	if len(found) == 0 {
		return object{}, noObject(r.object, r.id)
	}
	return found[0], nil
}

func (r *run) site() error {
	f, err := r.open()
	if err != nil {
		return err
	}
	switch r.verb {
	case "LIST":
		return r.list(r.named(r.sites(f)), f, nil)
	case "ADD":
		return r.addSite(f)
	}
	o, err := r.one(r.sites(f))
	if err != nil {
		return err
	}
	switch r.verb {
	case "SET":
		return r.set(f, o, func(at cursor) (cursor, error) {
			text, ok := r.param("bindings")
			if !ok {
				return at, nil
			}
			return f.setBindings(at, text, r.s.q.SetBindingsKeepsFlags == On)
		})
	case "DELETE":
		return r.remove(f, o)
	}
	return r.siteState(o)
}

// set applies the property arguments to an object, own ones first, and commits.
func (r *run) set(f *file, o object, own func(cursor) (cursor, error)) error {
	at, err := own(o.at)
	if err != nil {
		return err
	}
	if _, err := r.changeAll(f, at); err != nil {
		return err
	}
	return r.commit(f, func() { r.say("%s object \"%s\" changed", o.tag, o.id) })
}

func (r *run) remove(f *file, o object) error {
	if _, err := f.doc.Remove(o.at.node); err != nil {
		return err
	}
	return r.commit(f, func() { r.say("%s object \"%s\" deleted", o.tag, o.id) })
}

// setBindings replaces all bindings of a site; what the old ones had besides protocol and information is gone, except sslFlags with keep.
func (f *file) setBindings(site cursor, text string, keep bool) (cursor, error) {
	flags := map[string]string{}
	home := site.node.Path()
	back := func(err error) (cursor, error) { return cursor{f.doc.At(home), site.schema}, err }
	bindings := site.node.Child("bindings")
	if bindings == nil {
		var err error
		if bindings, err = f.doc.Insert(site.node, len(site.node.Children), bytexml.Element{Name: "bindings"}); err != nil {
			return back(err)
		}
	}
	for len(bindings.Children) > 0 {
		if v, ok := bindings.Children[0].Attr("sslFlags"); ok && keep {
			flags[strings.ToLower(attrOf(bindings.Children[0], "protocol")+"/"+attrOf(bindings.Children[0], "bindingInformation"))] = v
		}
		var err error
		if bindings, err = f.doc.Remove(bindings.Children[0]); err != nil {
			return back(err)
		}
	}
	if text == "" {
		return back(nil)
	}
	for _, part := range strings.Split(text, ",") {
		protocol, info, ok := strings.Cut(strings.TrimSpace(part), "/")
		if u, err := url.Parse(part); err == nil && u.Host != "" { // http://host:port is read too
			port := u.Port()
			if port == "" {
				port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
			}
			protocol, info, ok = u.Scheme, "*:"+port+":"+strings.TrimPrefix(u.Hostname(), "*"), true
		}
		if !ok || protocol == "" || info == "" {
			return back(badValue())
		}
		at := cursor{bindings, sitesSchema().item.child("bindings")}
		keys := [][2]string{{"protocol", protocol}, {"bindingInformation", info}}
		if v, ok := flags[strings.ToLower(protocol+"/"+info)]; ok {
			keys = append(keys, [2]string{"sslFlags", v})
		}
		if err := f.addItem(at, step{index: true, keys: keys}); err != nil {
			return back(err)
		}
		bindings = f.doc.At(home).Child("bindings")
	}
	return back(nil)
}

func (r *run) addSite(f *file) error {
	section, err := f.section(sitesSection)
	if err != nil {
		return err
	}
	if r.in {
		return r.addPiped(f, section, "SITE", "site")
	}
	name, ok := r.param("name", "site.name")
	if !ok && r.hasID {
		name, ok = r.id, true
	}
	switch {
	case !ok || name == "":
		return missingAttributes("site")
	case strings.ContainsAny(name, "/?"):
		return badValue()
	case len(slices.DeleteFunc(r.sites(f), func(o object) bool { return !strings.EqualFold(o.id, name) })) > 0:
		return duplicate(name)
	}
	id, given := r.param("id")
	if !given {
		last := 0
		for _, n := range section.node.All("site") {
			number, _ := strconv.Atoi(attrOf(n, "id"))
			last = max(last, number)
		}
		id = strconv.Itoa(last + 1)
	}
	if _, twice := section.item([][2]string{{"id", id}}); twice {
		return duplicateItem("site", [][2]string{{"id", id}})
	}
	e := bytexml.Element{Name: "site", Attrs: [][2]string{{"name", name}, {"id", id}}}
	physical, hasPath := r.param("physicalPath")
	if hasPath {
		e.Children = append(e.Children, bytexml.Element{Name: "application", Attrs: [][2]string{{"path", "/"}}, Children: []bytexml.Element{
			{Name: "virtualDirectory", Attrs: [][2]string{{"path", "/"}, {"physicalPath", physical}}}}})
	}
	e.Children = append(e.Children, bytexml.Element{Name: "bindings"})
	n, err := f.doc.Insert(section.node, lastItem(section.node, "site"), e)
	if err != nil {
		return err
	}
	at := cursor{n, section.schema.item}
	if number, err := strconv.ParseUint(id, 10, 32); err != nil || number == 0 {
		return badValue()
	}
	text, _ := r.param("bindings")
	if at, err = f.setBindings(at, text, false); err != nil {
		return err
	}
	if _, err = r.changeAll(f, at); err != nil {
		return err
	}
	return r.commit(f, func() {
		r.say("%s object \"%s\" added", "SITE", name)
		if hasPath {
			r.say("%s object \"%s\" added", "APP", name+"/")
			r.say("%s object \"%s\" added", "VDIR", name+"/")
		}
	})
}

// lastItem is the index behind the last child of that name: new members go before the elements with defaults.
func lastItem(n *bytexml.Node, name string) int {
	index := 0
	for i, c := range n.Children {
		if c.Name == name {
			index = i + 1
		}
	}
	return index
}

// siteState starts or stops a site.
func (r *run) siteState(o object) error {
	s := r.s
	number, _ := strconv.Atoi(attrOf(o.at.node, "id"))
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.sites[number]
	if t == nil || !strings.EqualFold(t.conf.name, o.id) {
		return invalidObject() // WAS has not seen it yet
	}
	if r.verb == "START" {
		if t.state == started {
			if s.q.AlreadyInStateFails == On {
				return s.already(true)
			}
		} else if !s.startSite(t) {
			return system(0x800700b7, "Cannot create a file when that file already exists.")
		}
		r.say("\"%s\" successfully started.", o.id)
		return nil
	}
	if t.state == stopped {
		if s.q.AlreadyInStateFails == On {
			return s.already(false)
		}
	} else {
		s.stopSite(t)
	}
	r.say("\"%s\" successfully stopped", o.id)
	return nil
}

// already is the error of a start or stop that changes nothing.
func (s *Server) already(running bool) *failure {
	f := system(0x80070426, "The service has not been started.")
	f.exit = s.q.AlreadyStoppedExit
	if running {
		f = system(0x80070420, "An instance of the service is already running.")
		f.exit = s.q.AlreadyStartedExit
	}
	if f.exit != f.hresult&0xffff {
		f.hresult = 0x80070000 | f.exit&0xffff
	}
	return f
}

func (r *run) app() error {
	f, err := r.open()
	if err != nil {
		return err
	}
	switch r.verb {
	case "LIST":
		return r.list(r.named(r.apps(f)), f, nil)
	case "ADD":
		return r.addApp(f)
	}
	o, err := r.one(r.apps(f))
	if err != nil {
		return err
	}
	if r.verb == "DELETE" {
		return r.remove(f, o)
	}
	return r.set(f, o, func(at cursor) (cursor, error) { return at, nil })
}

func (r *run) addApp(f *file) error {
	siteName, _ := r.param("site.name")
	path, _ := r.param("path")
	physical, hasPath := r.param("physicalPath")
	section := find(f.doc, sitesSection)
	if section == nil {
		return noObject("SITE", siteName)
	}
	site, ok := cursor{section, sitesSchema()}.item([][2]string{{"name", siteName}})
	switch {
	case siteName == "":
		return mustSpecify("SITE")
	case !ok:
		return noObject("SITE", siteName)
	case !strings.HasPrefix(path, "/") || path != "/" && strings.HasSuffix(path, "/"):
		return badValue()
	}
	if _, there := site.item([][2]string{{"path", path}}); there {
		return duplicate(path)
	}
	e := bytexml.Element{Name: "application", Attrs: [][2]string{{"path", path}}}
	if hasPath {
		e.Children = []bytexml.Element{{Name: "virtualDirectory", Attrs: [][2]string{{"path", "/"}, {"physicalPath", physical}}}}
	}
	n, err := f.doc.Insert(site.node, lastItem(site.node, "application"), e)
	if err != nil {
		return err
	}
	if _, err := r.changeAll(f, cursor{n, site.schema.item}); err != nil {
		return err
	}
	name := attrOf(f.doc.At(site.node.Path()), "name") + path
	return r.commit(f, func() {
		r.say("%s object \"%s\" added", "APP", name)
		if hasPath {
			r.say("%s object \"%s\" added", "VDIR", strings.TrimSuffix(name, "/")+"/")
		}
	})
}

func (r *run) vdir() error {
	f, err := r.open()
	if err != nil {
		return err
	}
	switch r.verb {
	case "LIST":
		return r.list(r.named(r.vdirs(f)), f, nil)
	case "ADD":
		return r.addVdir(f)
	}
	o, err := r.one(r.vdirs(f))
	if err != nil {
		return err
	}
	if r.verb == "DELETE" {
		return r.remove(f, o)
	}
	return r.set(f, o, func(at cursor) (cursor, error) { return at, nil })
}

func (r *run) addVdir(f *file) error {
	appName, ok := r.param("app.name")
	if !ok {
		return mustSpecify("APP")
	}
	path, _ := r.param("path")
	physical, _ := r.param("physicalPath")
	apps := slices.DeleteFunc(r.apps(f), func(o object) bool { return !strings.EqualFold(o.id, appName) })
	if len(apps) == 0 {
		return noObject("APP", appName)
	}
	if !strings.HasPrefix(path, "/") {
		return badValue()
	}
	app := apps[0].at
	if _, there := app.item([][2]string{{"path", path}}); there {
		return duplicate(path)
	}
	n, err := f.doc.Insert(app.node, len(app.node.Children), bytexml.Element{Name: "virtualDirectory", Attrs: [][2]string{{"path", path}, {"physicalPath", physical}}})
	if err != nil {
		return err
	}
	if _, err := r.changeAll(f, cursor{n, app.schema.item}); err != nil {
		return err
	}
	return r.commit(f, func() { r.say("%s object \"%s\" added", "VDIR", strings.TrimSuffix(apps[0].id, "/")+path) })
}
