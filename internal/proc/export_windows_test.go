package proc

import "net/netip"

// EnvBlock is envBlock.
func EnvBlock(env []string) ([]uint16, error) { return envBlock(env) }

// Owners is owners.
func OwnersIn(v4, v6 []byte, addr netip.AddrPort) []int { return owners(v4, v6, addr) }

// LookInList is lookInList.
func LookInList(pid int) (ID, error) {
	in, err := lookInList(pid)
	return in.id, err
}

// Encoded is encoded.
func Encoded(script string) string { return encoded(script) }
