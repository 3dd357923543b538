//go:build linux || darwin

package proc_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/internal/proc"
)

func at(pid int, start uint64) proc.ID { return proc.ID{PID: pid, Start: start, Boot: "b"} }

func TestMembers(t *testing.T) {
	const token = "T"
	main := at(900_100, 50)
	full := proc.Tree{Main: main, Token: token}
	unknown := proc.Tree{Token: token}
	tool := proc.Seen{ID: at(900_001, 10), Parent: 1, Session: 900_001}
	leader := proc.Seen{ID: main, Parent: 900_001, Session: 900_100, Token: token}
	deadLeader := leader
	deadLeader.Dead, deadLeader.Token = true, ""
	another := proc.Seen{ID: at(900_100, 99), Parent: 1, Session: 900_100, Token: "other"} // that has the pid of main now

	for name, c := range map[string]struct {
		tree proc.Tree
		all  []proc.Seen
		also []proc.ID
		main proc.ID
		want []proc.ID
	}{
		"the main process": {full, []proc.Seen{tool, leader}, nil, main, []proc.ID{main}},
		"a child in the session, with an environment of its own": {full, []proc.Seen{leader, {ID: at(900_200, 60), Parent: 1, Session: 900_100}}, nil,
			main, []proc.ID{main, at(900_200, 60)}},
		"a grandchild in a session of its own": {full, []proc.Seen{leader, {ID: at(900_200, 60), Parent: 1, Session: 900_200, Token: token}}, nil,
			main, []proc.ID{main, at(900_200, 60)}},
		"a descendant known by its parents only": {full, []proc.Seen{{ID: at(900_300, 61), Parent: 900_200, Session: 900_300}, leader,
			{ID: at(900_200, 60), Parent: 900_100, Session: 900_200}}, nil, main, []proc.ID{main, at(900_200, 60), at(900_300, 61)}},
		"one that is older than its parent is not its child": {full, []proc.Seen{leader, {ID: at(900_200, 40), Parent: 900_100, Session: 900_200}}, nil,
			main, []proc.ID{main}},
		"another slot's application, begun by this one": {full, []proc.Seen{leader,
			{ID: at(900_200, 60), Parent: 900_100, Session: 900_200, Token: "U"}, {ID: at(900_300, 70), Parent: 900_200, Session: 900_200, Token: "U"}}, nil,
			main, []proc.ID{main}},
		"main is dead, not waited for: its session is still its own": {full, []proc.Seen{deadLeader, {ID: at(900_200, 60), Parent: 1, Session: 900_100}}, nil,
			proc.ID{}, []proc.ID{at(900_200, 60)}},
		"main has gone: its session may be another's": {full, []proc.Seen{{ID: at(900_200, 60), Parent: 1, Session: 900_100},
			{ID: at(900_300, 61), Parent: 1, Session: 900_100, Token: token}}, nil, proc.ID{}, []proc.ID{at(900_300, 61)}},
		"main's pid is used again": {full, []proc.Seen{another, {ID: at(900_200, 100), Parent: 900_100, Session: 900_100}}, nil, proc.ID{}, nil},
		"one that was seen before": {full, []proc.Seen{{ID: at(900_200, 60), Parent: 1, Session: 900_100}}, []proc.ID{at(900_200, 60)},
			proc.ID{}, []proc.ID{at(900_200, 60)}},
		"one that was seen before, its pid used again": {full, []proc.Seen{{ID: at(900_200, 61), Parent: 1, Session: 900_100}}, []proc.ID{at(900_200, 60)},
			proc.ID{}, nil},
		"only the token is known: the leader is the main process": {unknown, []proc.Seen{tool, {ID: at(900_050, 50), Parent: 900_100, Session: 900_050, Token: token},
			leader}, nil, main, []proc.ID{at(900_050, 50), main}},
		"only the token is known, nothing is left": {unknown, []proc.Seen{tool, deadLeader}, nil, proc.ID{}, nil},
		"no token, no main":                        {proc.Tree{}, []proc.Seen{tool, {ID: at(900_200, 60), Parent: 1}}, nil, proc.ID{}, nil},
	} {
		m := c.tree.MembersOf(c.all, c.also...)
		assert.Equal(t, c.main, m.Main, name)
		assert.Equal(t, c.want, m.All, name)
	}
}
