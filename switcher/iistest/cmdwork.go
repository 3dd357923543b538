package iistest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// workers lists the worker processes.
func (r *run) workers() ([]object, *file, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []object
	for p := range s.everyPool() {
		for w := range p.workers {
			pid := strconv.Itoa(w.pid)
			if r.hasID && r.id != pid {
				continue
			}
			all = append(all, object{tag: "WP", id: pid, short: [][2]string{{"applicationPool", p.name}},
				attrs: [][2]string{{"WP.NAME", pid}, {"APPPOOL.NAME", p.name}}})
		}
	}
	slices.SortFunc(all, func(a, b object) int { return cmp.Or(cmp.Compare(len(a.id), len(b.id)), strings.Compare(a.id, b.id)) })
	return all, nil, nil
}

// requests lists the requests that worker processes have; those in a queue are in no list.
func (r *run) requests() ([]object, *file, error) {
	s := r.s
	atLeast := -1
	if v, ok := r.param("elapsed"); ok {
		ms, err := strconv.Atoi(v)
		if err != nil {
			return nil, nil, badValue()
		}
		atLeast = ms
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []object
	for p := range s.everyPool() {
		for w := range p.workers {
			for q := range w.requests {
				took := int(s.emulated(time.Since(q.begin)).Milliseconds())
				if r.hasID && !strings.EqualFold(r.id, q.id) || took < atLeast {
					continue
				}
				all = append(all, s.requestObject(q, took))
			}
		}
	}
	slices.SortFunc(all, func(a, b object) int { return strings.Compare(a.id, b.id) })
	return all, nil, nil
}

func (s *Server) requestObject(q *request, took int) object {
	stage, module := "ExecuteRequestHandler", "StaticFileModule"
	if q.instance != nil {
		module = q.instance.release.mode.module()
	}
	ms := strconv.Itoa(took)
	client := q.client
	if client == home {
		client = "localhost"
	}
	url, verb, ip, stageName, moduleName, elapsed := "Url", "Verb", "ClientIp", "Stage", "Module", "Time"
	switch s.q.RequestSpelling {
	case SpellingModule:
		moduleName = "ModuleName"
	case SpellingRuntime:
		url, verb, ip, stageName, moduleName, elapsed = "url", "verb", "clientIpAddress", "pipeLineState", "currentModule", "timeElapsed"
	}
	return object{
		tag: "REQUEST", id: q.id, comma: ", ",
		short: [][2]string{{"url", q.verb + " " + q.url}, {"time", ms + " msec"}, {"client", client}, {"stage", stage}, {"module", module}},
		attrs: [][2]string{
			{"REQUEST.NAME", q.id}, {"SITE.ID", strconv.Itoa(q.key.site)}, {"WP.NAME", strconv.Itoa(q.worker.pid)}, {"APPPOOL.NAME", q.worker.pool.name},
			{url, q.url}, {verb, q.verb}, {ip, q.client}, {stageName, stage}, {moduleName, module}, {elapsed, ms},
		},
		hidden: [][2]string{{"SITE.NAME", q.site.conf.name}},
	}
}
