package iistest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// invalidInput is what input that cannot be used gives.
func invalidInput() *failure { return system(0x8007000d, "The data is invalid.") }

// input reads the XML that another command has printed.
func (r *run) input() ([]*bytexml.Node, error) {
	doc, err := bytexml.Parse(slices.Clone(r.stdin))
	if err != nil || doc.Root().Name != "appcmd" {
		return nil, invalidInput()
	}
	return doc.Root().Children, nil
}

// piped runs the command for each object in its input: objects of other kinds stand for those that belong to them.
func (r *run) piped() error {
	nodes, err := r.input()
	if err != nil {
		return err
	}
	f, err := r.open()
	if err != nil {
		return err
	}
	var ids []string
	for _, n := range nodes {
		id, ok := r.related(f, n)
		if ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	r.in = false
	if r.verb != "LIST" && len(ids) == 0 {
		return mustSpecify(r.object)
	}
	for _, id := range ids {
		r.id, r.hasID = id, true
		if err := r.dispatch(); err != nil {
			return err
		}
	}
	r.listed = r.verb == "LIST"
	return nil
}

// related is the identifier of the object of the command's kind that belongs to n.
func (r *run) related(f *file, n *bytexml.Node) (string, bool) {
	if id, ok := n.Attr(r.object + ".NAME"); ok {
		return id, true
	}
	site, hasSite := n.Attr("SITE.NAME")
	if id, ok := n.Attr("SITE.ID"); ok && !hasSite {
		for _, o := range r.sites(f) {
			if v, _ := o.get(f, "SITE.ID"); v == id {
				site, hasSite = o.id, true
			}
		}
	}
	if app, ok := n.Attr("APP.NAME"); ok && !hasSite {
		site, _, hasSite = strings.Cut(app, "/")
	}
	if vdir, ok := n.Attr("VDIR.NAME"); ok && !hasSite {
		site, _, hasSite = strings.Cut(vdir, "/")
	}
	if !hasSite {
		return "", false
	}
	switch r.object {
	case "SITE":
		return site, true
	case "APP", "APPPOOL":
		path := "/"
		for _, name := range []string{"Url", "url"} {
			if u, ok := n.Attr(name); ok {
				path = u
			}
		}
		if app, ok := n.Attr("APP.NAME"); ok {
			path = strings.TrimPrefix(app, site)
		}
		return r.appOf(f, site, path)
	}
	return "", false
}

// appOf is the application that serves a path of a site, or its pool.
func (r *run) appOf(f *file, site, path string) (string, bool) {
	path, _, _ = strings.Cut(path, "?")
	var conf siteConf
	pools := map[string]string{}
	for _, o := range r.apps(f) {
		if name, _ := o.get(f, "SITE.NAME"); strings.EqualFold(name, site) {
			at, _ := o.get(f, "path")
			conf.apps = append(conf.apps, appConf{path: at})
			pools[at], _ = o.get(f, "APPPOOL.NAME")
		}
	}
	app, ok := conf.serving(path)
	if r.object == "APPPOOL" {
		return pools[app.path], ok
	}
	return site + app.path, ok
}

// addPiped adds the objects in the input, as /config lists them, in one commit.
func (r *run) addPiped(f *file, section cursor, tag, name string) error {
	nodes, err := r.input()
	if err != nil {
		return err
	}
	given, hasName := r.param("name")
	var added []string
	home := section.node.Path()
	for _, n := range nodes {
		e := n.Child(name)
		if n.Name != tag || e == nil {
			return invalidInput()
		}
		element := copyOf(e)
		if hasName {
			setCopy(&element, "name", given)
		}
		id := getCopy(element, "name")
		at := cursor{f.doc.At(home), section.schema}
		if id == "" || !legal(element, section.schema.item) {
			return invalidInput()
		}
		if _, there := at.item([][2]string{{"name", id}}); there {
			return duplicate(id)
		}
		if tag == "SITE" {
			number := getCopy(element, "id")
			if _, twice := at.item([][2]string{{"id", number}}); twice || number == "" {
				setCopy(&element, "id", strconv.Itoa(len(at.node.All("site"))+1000))
			}
		}
		if _, err := f.doc.Insert(at.node, lastItem(at.node, name), element); err != nil {
			return err
		}
		added = append(added, id)
	}
	if len(added) == 0 {
		return invalidInput()
	}
	return r.commit(f, func() {
		for _, id := range added {
			r.say("%s object \"%s\" added", tag, id)
		}
	})
}

// legal tells whether the schema knows all of an element, as an export of a newer version may not be.
func legal(e bytexml.Element, schema *element) bool {
	for _, a := range e.Attrs {
		known := schema.attr(a[0])
		if known == nil {
			return false
		}
		if _, ok := known.check(a[1]); !ok {
			return false
		}
	}
	for _, c := range e.Children {
		sub := schema.child(c.Name)
		if sub == nil && schema.item != nil && schema.item.name == c.Name {
			sub = schema.item
		}
		if sub != nil && !legal(c, sub) {
			return false
		}
	}
	return true
}

func copyOf(n *bytexml.Node) bytexml.Element {
	e := bytexml.Element{Name: n.Name}
	for _, a := range n.Attrs {
		e.Attrs = append(e.Attrs, [2]string{a.Name, a.Value})
	}
	for _, c := range n.Children {
		e.Children = append(e.Children, copyOf(c))
	}
	return e
}

func setCopy(e *bytexml.Element, name, value string) {
	for i := range e.Attrs {
		if e.Attrs[i][0] == name {
			e.Attrs[i][1] = value
			return
		}
	}
	e.Attrs = append(e.Attrs, [2]string{name, value})
}

func getCopy(e bytexml.Element, name string) string {
	for _, a := range e.Attrs {
		if a[0] == name {
			return a[1]
		}
	}
	return ""
}
