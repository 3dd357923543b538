package proc_test

import (
	"encoding/binary"
	"io/fs"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/proc"
)

func TestEnvBlock(t *testing.T) {
	block, err := proc.EnvBlock([]string{"Path=a", "X=1", "=C:=C:\\d", "PATH=b", "", "=D:=D:\\e", "x=2"})
	require.NoError(t, err)
	var got []string
	for len(block) > 1 {
		s := windows.UTF16ToString(block)
		got = append(got, s)
		block = block[len(windows.StringToUTF16(s)):]
	}
	assert.Equal(t, []uint16{0}, block)
	assert.Equal(t, []string{"=C:=C:\\d", "PATH=b", "=D:=D:\\e", "x=2"}, got)
	block, err = proc.EnvBlock(nil)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0, 0}, block)
	_, err = proc.EnvBlock([]string{"A=\x00"})
	assert.Error(t, err)
}

func TestOwnersInTables(t *testing.T) {
	row4 := func(ip [4]byte, port uint16, pid uint32) []byte {
		b := make([]byte, 24)
		copy(b[4:], ip[:])
		binary.BigEndian.PutUint16(b[8:], port)
		binary.LittleEndian.PutUint32(b[20:], pid)
		return b
	}
	row6 := func(ip netip.Addr, port uint16, pid uint32) []byte {
		b := make([]byte, 56)
		a := ip.As16()
		copy(b, a[:])
		binary.BigEndian.PutUint16(b[20:], port)
		binary.LittleEndian.PutUint32(b[52:], pid)
		return b
	}
	table := func(rows ...[]byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(rows)))
		for _, r := range rows {
			b = append(b, r...)
		}
		return append(b, 1, 2, 3) // what is left of the buffer
	}
	v4 := table(row4([4]byte{127, 0, 0, 1}, 5001, 11), row4([4]byte{}, 5001, 12), row4([4]byte{}, 5002, 13))
	v6 := table(row6(netip.IPv6Unspecified(), 5002, 14), row6(netip.IPv6Loopback(), 5003, 15))
	for addr, want := range map[string][]int{
		"127.0.0.1:5001": {11}, "127.0.0.1:5002": {13, 14}, "[::1]:5002": {14}, "[::1]:5003": {15}, "127.0.0.1:5003": nil,
	} {
		assert.Equal(t, want, proc.OwnersIn(v4, v6, netip.MustParseAddrPort(addr)), addr)
	}
}

func TestTheListOfAllTellsTheSame(t *testing.T) {
	c, _ := launch(t, "sleep", "TokenList")
	id, err := proc.LookInList(c.ID().PID)
	require.NoError(t, err)
	assert.Equal(t, c.ID(), id)
	_, err = proc.LookInList(1 << 30)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestEncoded(t *testing.T) {
	assert.Equal(t, "ZQB4AGkAdAA=", proc.Encoded("exit"))
}
