package proc_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/proc"
)

const rest = " 4194560 100 0 0 0 5 6 0 0 20 0 7 0 123456 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	for _, name := range []string{"server", "a b", "a) S 1 1 1 (b", "((", "))", "", "new\nline"} {
		id, got, parent, session, dead, err := proc.ParseStat("42 (" + name + ") S 7 41 40 0 -1" + rest)
		require.NoError(t, err, name)
		assert.Equal(t, proc.ID{PID: 42, Start: 123456}, id, name)
		assert.Equal(t, name, got)
		assert.Equal(t, 7, parent)
		assert.Equal(t, 40, session)
		assert.False(t, dead)
	}
	for line, want := range map[string]bool{
		"42 (x) Z 7 41 40 0 -1" + rest:                                         false, // its first thread has ended, six others run
		"42 (x) Z 7 41 40 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 123456 0 0":  true,
		"42 (x) X 7 41 40 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 0 0 123456 0 0":  true,
		"42 (Z) S 7 41 40 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 123456 0 0":  false,
		"42 (x) T 7 41 40 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 123456 0 0 ": false,
	} {
		_, _, _, _, dead, err := proc.ParseStat(line)
		require.NoError(t, err)
		assert.Equal(t, want, dead, line)
	}
	for _, bad := range []string{"", "42", "42 (x", "x (y) S 1 2 3", "42 (x) S 7 41", "42 )x( S 7", "42 (x) S a 41 40 0 -1" + rest} {
		_, _, _, _, _, err := proc.ParseStat(bad)
		assert.Error(t, err, "%q", bad)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (a) b) S 7 41 40 0 -1" + rest)
	f.Fuzz(func(t *testing.T, line string) { _, _, _, _, _, _ = proc.ParseStat(line) })
}

const tcp4 = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000 100 0 0 10 0
   1: 00000000:138A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1389 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000000000000000 20 4 30 10 -1
`

const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:138B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100
   1: 00000000000000000000000001000000:138C 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 555 1 0 100
   2: 0000000000000000FFFF00000100007F:138D 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 666 1 0 100
`

func TestParseTable(t *testing.T) {
	for addr, want := range map[string][2][]string{ // on a machine whose words begin with the lowest byte
		"127.0.0.1:5001": {{"111"}, nil},
		"127.0.0.2:5001": {nil, nil},
		"127.0.0.1:5002": {nil, {"222"}},
		"[::1]:5002":     {nil, nil}, // the IPv4 wildcard takes no IPv6
		"127.0.0.1:5003": {nil, {"444"}},
		"[::1]:5004":     {{"555"}, nil},
		"127.0.0.1:5005": {{"666"}, nil},
		"127.0.0.1:5009": {nil, nil},
	} {
		e4, w4, err := proc.ParseTable(tcp4, netip.MustParseAddrPort(addr), true)
		require.NoError(t, err)
		e6, w6, err := proc.ParseTable(tcp6, netip.MustParseAddrPort(addr), true)
		require.NoError(t, err)
		assert.Equal(t, want[0], append(e4, e6...), addr)
		assert.Equal(t, want[1], append(w4, w6...), addr)
	}
	for _, bad := range []string{"head\n0: 0100007F:1389 00000000:0000 0A", "head\n0: 01:1389 0 0A 0 0 0 0 0 1", "head\n0: 0100007F 0 0A 0 0 0 0 0 1"} {
		_, _, err := proc.ParseTable(bad, netip.MustParseAddrPort("127.0.0.1:5001"), true)
		assert.Error(t, err, bad)
	}
}

// The kernel names the listeners first. On a machine with 30,000 connections all that stands behind them would cost 70 ms a look.
func TestParseTableStopsAtTheFirstConnection(t *testing.T) {
	const line = "%d: 0100007F:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000 0 0 %d 1 0\n"
	table := "head\n" + fmt.Sprintf(line, 0, 5001, "0A", 11) + fmt.Sprintf(line, 1, 5001, "01", 22) + fmt.Sprintf(line, 2, 5002, "0A", 33)
	for port, want := range map[uint16][2][]string{5001: {{"11"}, {"11"}}, 5002: {nil, {"33"}}} {
		for i, whole := range []bool{false, true} {
			exact, wild, err := proc.ParseTable(table, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), whole)
			require.NoError(t, err)
			assert.Empty(t, wild)
			assert.Equal(t, want[i], exact, "port %d, whole %v", port, whole)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(tcp4)
	f.Add(tcp6)
	f.Fuzz(func(t *testing.T, table string) {
		_, _, _ = proc.ParseTable(table, netip.MustParseAddrPort("127.0.0.1:5001"), true)
	})
}

func TestServiceIn(t *testing.T) {
	assert.Contains(t, proc.ServiceIn("0::/system.slice/deploy.service\n"), "deploy.service")
	assert.Contains(t, proc.ServiceIn("3:cpu:/x\n1:name=systemd:/system.slice/ci.service\n"), "ci.service")
	for _, fine := range []string{"", "0::/\n", "0::/user.slice/user-0.slice/session-3.scope\n", "0::/user.slice/user@1000.service\n", "junk"} {
		assert.Empty(t, proc.ServiceIn(fine))
	}
}
