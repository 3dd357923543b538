package haproxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bits of srv_admin_state.
const (
	adminForcedMaint = 0x01
	adminForcedDrain = 0x08
	adminMaint       = 0x63 // any kind: forced, by a tracked server, by a name that does not resolve
	adminDrain       = 0x18 // forced, or by a tracked server
)

// serverState is a row of "show servers state".
type serverState struct {
	name   string
	admin  int
	up     bool // srv_op_state is not "stopped"
	weight int
	config int  // the weight in the configuration
	agent  bool // an agent check may change state and weight
}

func (s serverState) maint() bool { return s.admin&adminMaint != 0 }

// on tells whether new requests may go to the server, as far as the administration goes.
func (s serverState) on() bool { return s.admin&(adminMaint|adminDrain) == 0 }

// stateTable is an answer to "show servers state", whose rows can be changed and written.
type stateTable struct {
	version string
	heading string
	columns map[string]int
	rows    [][]string
}

// parseStates reads "show servers state". Columns are found by the heading.
func parseStates(text string) (*stateTable, error) {
	t := &stateTable{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
		case t.version == "":
			if line != "1" {
				return nil, fmt.Errorf("%w: show servers state is of version %q, not 1", ErrBadAnswer, firstLine(line))
			}
			t.version = line
		case strings.HasPrefix(line, "#"):
			t.heading, t.columns = line, map[string]int{}
			for i, name := range strings.Fields(strings.TrimPrefix(line, "#")) {
				t.columns[name] = i
			}
		case t.columns == nil:
			return nil, fmt.Errorf("%w: show servers state has no heading but %q", ErrBadAnswer, firstLine(line))
		default:
			t.rows = append(t.rows, strings.Fields(line))
		}
	}
	for _, name := range []string{"be_name", "srv_name", "srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight"} {
		if _, ok := t.columns[name]; !ok {
			return nil, fmt.Errorf("%w: show servers state has no column %q", ErrBadAnswer, name)
		}
	}
	for _, row := range t.rows {
		if _, err := t.state(row); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *stateTable) field(row []string, name string) string {
	if i, ok := t.columns[name]; ok && i < len(row) {
		return row[i]
	}
	return ""
}

func (t *stateTable) state(row []string) (s serverState, err error) {
	s.name = t.field(row, "srv_name")
	op := 0
	for _, n := range []struct {
		column string
		to     *int
	}{{"srv_op_state", &op}, {"srv_admin_state", &s.admin}, {"srv_uweight", &s.weight}, {"srv_iweight", &s.config}} {
		if *n.to, err = strconv.Atoi(t.field(row, n.column)); err != nil || *n.to < 0 {
			return s, fmt.Errorf("%w: show servers state: %s of %q is %q", ErrBadAnswer, n.column, s.name, t.field(row, n.column))
		}
	}
	s.up = op != 0
	port := t.field(row, "srv_agent_port")
	s.agent = port != "" && port != "0" && port != "-"
	return s, nil
}

// servers returns the states of a backend's servers, by name.
func (t *stateTable) servers(backend string) map[string]serverState {
	all := map[string]serverState{}
	for _, row := range t.rows {
		if t.field(row, "be_name") == backend {
			if s, err := t.state(row); err == nil {
				all[s.name] = s
			}
		}
	}
	return all
}

// set changes the administrative state and the weight of a server in the table.
func (t *stateTable) set(backend string, want target) {
	for _, row := range t.rows {
		if t.field(row, "be_name") != backend || t.field(row, "srv_name") != want.server {
			continue
		}
		s, err := t.state(row)
		if err != nil {
			continue
		}
		admin := s.admin &^ (adminForcedDrain | adminForcedMaint)
		switch want.state {
		case stateDrain:
			admin |= adminForcedDrain
		case stateMaint:
			admin |= adminForcedMaint
		}
		row[t.columns["srv_admin_state"]] = strconv.Itoa(admin)
		if want.weight > 0 {
			row[t.columns["srv_uweight"]] = strconv.Itoa(want.weight)
		}
		if want.state == stateReady && s.maint() {
			row[t.columns["srv_op_state"]] = "2" // up, as it is when it leaves maintenance
		}
	}
}

// text is the table as HAProxy reads it from a state file.
func (t *stateTable) text() string {
	var b strings.Builder
	b.WriteString(t.version + "\n" + t.heading + "\n")
	for _, row := range t.rows {
		b.WriteString(strings.Join(row, " ") + "\n")
	}
	return b.String()
}

// names lists the servers of a table, sorted.
func names(states map[string]serverState) []string {
	all := make([]string, 0, len(states))
	for name := range states {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
