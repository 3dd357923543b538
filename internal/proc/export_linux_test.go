package proc

import "net/netip"

// ParseStat gives what parseStat reads.
func ParseStat(line string) (id ID, name string, parent, session int, dead bool, err error) {
	in, err := parseStat([]byte(line))
	return in.id, in.name, in.parent, in.session, in.dead, err
}

// ParseTable is parseTable.
func ParseTable(table string, addr netip.AddrPort) (exact, wild []string, err error) {
	return parseTable(table, addr)
}

// ServiceIn is serviceIn.
func ServiceIn(cgroups string) string { return serviceIn(cgroups) }
