package proc

import (
	"net/netip"
	"strings"
)

// ParseStat gives what parseStat reads.
func ParseStat(line string) (id ID, name string, parent, session int, dead bool, err error) {
	in, err := parseStat([]byte(line))
	return in.id, in.name, in.parent, in.session, in.dead, err
}

// ParseTable is parseTable.
func ParseTable(table string, addr netip.AddrPort, whole bool) (exact, wild []string, err error) {
	return parseTable(strings.NewReader(table), addr, whole)
}

// ServiceIn is serviceIn.
func ServiceIn(cgroups string) string { return serviceIn(cgroups) }
