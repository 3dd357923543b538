//go:build linux || darwin

package proc

// Seen is a process as a snapshot shows it.
type Seen struct {
	ID              ID
	Parent, Session int
	Dead            bool
	Token           string
}

// MembersOf picks from all what belongs to t.
func (t Tree) MembersOf(all []Seen, also ...ID) Members {
	infos := make([]info, len(all))
	tokens := map[int]string{}
	for i, s := range all {
		infos[i] = info{id: s.ID, parent: s.Parent, session: s.Session, dead: s.Dead}
		tokens[s.ID.PID] = s.Token
	}
	return t.members(infos, also, func(pid int) string { return tokens[pid] })
}
