package haproxy

import (
	"fmt"
	"time"
)

// Stat is a row of "show stat".
type Stat struct {
	Name                       string
	Current, Queued            int
	Status, Cookie, Mode, Algo string
	Backup                     bool
}

// ServerState is a row of "show servers state".
type ServerState struct {
	On, Drain, Maint, Up, Agent bool
	Weight, Config              int
}

// Session is a row of "show sess all".
type Session struct {
	ID, Source, Backend, Server, Method string
	Upgraded                            bool
	In, Out                             int64
	Age                                 time.Duration
}

var (
	ParseMapValue = parseMapValue
	ParseAge      = parseAge
	ParseInfo     = parseInfo
	HasTable      = hasTable
	Complete      = complete
	Refusal       = refusal
	MapValue      = mapValue
)

// ParseWaited tells what the answer to a wait means.
func ParseWaited(answer string) string {
	return map[waited]string{waitNever: "never", waitUnable: "not now", waitExpired: "expired", waitOver: "over"}[parseWaited(answer)]
}

func ParseProcesses(text string) (pids []int, old []bool, failed int, err error) {
	p, err := parseProcesses(text)
	for _, w := range p.workers {
		pids, old = append(pids, w.pid), append(old, w.old)
	}
	return pids, old, p.failed, err
}

func ParseStats(text, backend string) ([]Stat, error) {
	rows, err := parseStats(text, backend)
	var all []Stat
	for _, r := range rows {
		all = append(all, Stat{r.name, r.current, r.queued, r.status, r.cookie, r.mode, r.algo, r.backup})
	}
	return all, err
}

// ParseStates reads a table, sets servers of the backend to states, and tells what came out and how it is written.
func ParseStates(text, backend string, set map[string]string) (map[string]ServerState, string, error) {
	t, err := parseStates(text)
	if err != nil {
		return nil, "", err
	}
	for server, to := range set {
		t.set(backend, target{server: server, state: state(to)})
	}
	all := map[string]ServerState{}
	for name, s := range t.servers(backend) {
		all[name] = ServerState{On: s.on(), Drain: s.admin&adminDrain != 0, Maint: s.maint(), Up: s.up, Agent: s.agent, Weight: s.weight, Config: s.config}
	}
	return all, t.text(), nil
}

func ParseSessions(text string, now time.Time) ([]Session, error) {
	some, err := parseSessions(text)
	var all []Session
	for i, age := range ages(some, now) {
		s := some[i]
		all = append(all, Session{s.id, s.source, s.backend, s.server, s.method, s.upgraded, s.in, s.out, age})
	}
	return all, err
}

func EditMap(content, key, value string) (string, error) {
	return editMap(content, map[string]string{key: value})
}

func inside(states map[string]ServerState) map[string]serverState {
	all := map[string]serverState{}
	for name, s := range states {
		x := serverState{name: name, up: s.Up, weight: s.Weight, config: s.Config}
		if s.Drain {
			x.admin |= adminForcedDrain
		}
		if s.Maint {
			x.admin |= adminForcedMaint
		}
		all[name] = x
	}
	return all
}

// Plan tells "state weight" for each server.
func Plan(states map[string]ServerState, slots map[string][]string, parts map[string]int) map[string]string {
	all := map[string]string{}
	for _, t := range plan(inside(states), slots, parts, stateDrain) {
		all[t.server] = fmt.Sprintf("%s %d", t.state, t.weight)
	}
	return all
}

func Shares(states map[string]ServerState, slots map[string][]string) map[string]int {
	return shares(inside(states), slots)
}
