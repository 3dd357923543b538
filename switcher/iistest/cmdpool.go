package iistest

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// poolObjects lists the application pools of a file.
func (r *run) poolObjects(f *file) []object {
	section := find(f.doc, poolsSection)
	if section == nil {
		return nil
	}
	zero := section.Child("applicationPoolDefaults")
	var all []object
	for _, n := range section.All("add") {
		name := attrOf(n, "name")
		at := cursor{n, poolsSchema().item}
		version, _ := f.value(at, zero, "managedRuntimeVersion")
		mode, _ := f.value(at, zero, "managedPipelineMode")
		state := r.s.poolState(name).String()
		all = append(all, object{
			tag: "APPPOOL", id: name, short: [][2]string{{"MgdVersion", version}, {"MgdMode", mode}, {"state", state}},
			attrs: [][2]string{{"APPPOOL.NAME", name}, {"PipelineMode", mode}, {"RuntimeVersion", version}, {"state", state}}, at: at, zero: zero,
		})
	}
	return all
}

func (s *Server) poolState(name string) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[strings.ToLower(name)]
	if !s.up || s.elevation != Elevated || p == nil {
		return unknown
	}
	return p.state
}

func (r *run) pool() error {
	f, err := r.open()
	if err != nil {
		return err
	}
	switch r.verb {
	case "LIST":
		return r.list(r.named(r.poolObjects(f)), f, nil)
	case "ADD":
		return r.addPool(f)
	}
	o, err := r.one(r.poolObjects(f))
	if err != nil {
		return err
	}
	switch r.verb {
	case "SET":
		return r.set(f, o, func(at cursor) (cursor, error) { return at, nil })
	case "DELETE":
		return r.remove(f, o)
	}
	return r.poolChange(o.id)
}

func (r *run) addPool(f *file) error {
	section, err := f.section(poolsSection)
	if err != nil {
		return err
	}
	if r.in {
		return r.addPiped(f, section, "APPPOOL", "add")
	}
	name, ok := r.param("name", "apppool.name")
	if !ok && r.hasID {
		name, ok = r.id, true
	}
	switch {
	case !ok || name == "":
		return missingAttributes("add")
	case strings.ContainsAny(name, "|<>&\"/[]+=;:,?*@\\`"):
		return badValue()
	}
	if _, there := section.item([][2]string{{"name", name}}); there {
		return duplicate(name)
	}
	n, err := f.doc.Insert(section.node, lastItem(section.node, "add"), bytexml.Element{Name: "add", Attrs: [][2]string{{"name", name}}})
	if err != nil {
		return err
	}
	if _, err := r.changeAll(f, cursor{n, section.schema.item}); err != nil {
		return err
	}
	return r.commit(f, func() { r.say("%s object \"%s\" added", "APPPOOL", name) })
}

// poolChange starts, stops or recycles a pool.
func (r *run) poolChange(name string) error {
	s := r.s
	s.mu.Lock()
	p := s.pools[strings.ToLower(name)]
	if p == nil {
		s.mu.Unlock()
		return invalidObject() // WAS has not seen it yet
	}
	s.rpcDue = s.rpcDue || s.q.RPCErrorAfterPoolChange == On
	err := r.poolVerb(p)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	_, wait := r.flags["wait"]
	if r.verb == "STOP" && (wait || s.q.StopPoolBlocks == On) {
		ctx := r.ctx
		if ms, err := strconv.Atoi(r.flags["timeout"]); err == nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.real(time.Duration(ms)*time.Millisecond))
			defer cancel()
		}
		if s.await(ctx, func() bool { return p.state != stopping }) != nil && r.ctx.Err() != nil {
			return errKilled
		}
	}
	switch r.verb {
	case "START":
		r.say("\"%s\" successfully started.", name)
	case "STOP":
		r.say("\"%s\" successfully stopped", name)
	default:
		r.say("\"%s\" successfully recycled", name)
	}
	return nil
}

// poolVerb does the change. mu is held.
func (r *run) poolVerb(p *pool) error {
	s := r.s
	switch {
	case r.verb == "RECYCLE" && p.state != started:
		return system(0x80070426, "The service has not been started.")
	case r.verb == "RECYCLE":
		s.recycle(p)
	case p.state == stopping, r.verb == "START" && p.state == stopped && time.Since(p.ended) < s.real(s.q.PoolRestartPause):
		return system(0x80070425, "The service cannot accept control messages at this time.")
	case r.verb == "START" && p.state == started, r.verb == "STOP" && p.state == stopped:
		if s.q.AlreadyInStateFails == On {
			return s.already(r.verb == "START")
		}
	case r.verb == "START":
		s.startPool(p)
	default:
		s.stopPool(p)
	}
	return nil
}
