package sockets_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/sockets"
)

// procSample was taken from a Linux 6.18 on amd64: a listener, a connection that is established, one that the client has half closed, one that
// the application has closed, and one in TIME_WAIT.
const procSample = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41285 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1389 0100007F:B8E2 01 00000000:00000000 00:00000000 00000000     0        0 41290 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1389 0100007F:B8E4 08 00000000:00000000 00:00000000 00000000     0        0 41291 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:1389 0100007F:B8E6 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   4: 0100007F:1389 0100007F:B8E8 06 00000000:00000000 03:00000D5B 00000000     0        0 0 3 0000000000000000
`

func collect(all *[]sockets.Conn) func(sockets.Conn) {
	return func(c sockets.Conn) { *all = append(*all, c) }
}

func TestParseProc(t *testing.T) {
	var all []sockets.Conn
	require.NoError(t, sockets.ParseProc(strings.NewReader(procSample), collect(&all)))
	listener := netip.MustParseAddrPort("127.0.0.1:5001")
	peer := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(listener.Addr(), port) }
	assert.Equal(t, []sockets.Conn{
		{Local: listener, Remote: netip.MustParseAddrPort("0.0.0.0:0"), State: sockets.StateListen, Owned: true},
		{Local: listener, Remote: peer(0xB8E2), State: sockets.StateEstablished, Owned: true},
		{Local: listener, Remote: peer(0xB8E4), State: sockets.StateCloseWait, Owned: true},
		{Local: listener, Remote: peer(0xB8E6), State: sockets.StateFinWait},
		{Local: listener, Remote: peer(0xB8E8), State: sockets.StateOther},
	}, all)
}

func TestParseProcMapsIPv4(t *testing.T) {
	var all []sockets.Conn
	const line = "  sl\n 0: 0000000000000000FFFF00000100007F:1389 00000000000000000000000001000000:0001 01 0:0 0:0 0 0 0 7 1\n"
	require.NoError(t, sockets.ParseProc(strings.NewReader(line), collect(&all)))
	require.Len(t, all, 1)
	assert.Equal(t, netip.MustParseAddrPort("127.0.0.1:5001"), all[0].Local)
	assert.Equal(t, netip.MustParseAddrPort("[::1]:1"), all[0].Remote)
}

func TestParseProcRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, bad := range []string{
		"h\n0: 0100007F:1389\n",
		"h\n0: 01007F:1389 00000000:0000 0A 0:0 0:0 0 0 0 7 1\n",
		"h\n0: 0100007F:1389 zz:0000 0A 0:0 0:0 0 0 0 7 1\n",
		"h\n0: 0100007F:1389 00000000:0000 xx 0:0 0:0 0 0 0 7 1\n",
		"h\n0: 0100007F:99999 00000000:0000 0A 0:0 0:0 0 0 0 7 1\n",
	} {
		assert.Error(t, sockets.ParseProc(strings.NewReader(bad), func(sockets.Conn) {}), "%q", bad)
	}
}

// row builds a row of a Windows table out of numbers, and of ports, which are in the order of the network.
func row(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(p))
		case uint16:
			b = append(binary.BigEndian.AppendUint16(b, p), 0, 0)
		case netip.Addr:
			b = append(b, p.AsSlice()...)
		}
	}
	return b
}

func TestParseRows(t *testing.T) {
	four, six := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	v4 := append(row(2), row(2, four, uint16(5001), netip.IPv4Unspecified(), 0, 77)...)
	v4 = append(v4, row(5, four, uint16(5001), four, uint16(40000), 77)...)
	v6 := append(row(1), row(six, 0, uint16(5001), six, 0, uint16(40001), 8, 0)...)
	var all []sockets.Conn
	require.NoError(t, sockets.ParseRows(append(v4, "beyond the count"...), v6, collect(&all)))
	assert.Equal(t, []sockets.Conn{
		{Local: netip.AddrPortFrom(four, 5001), Remote: netip.MustParseAddrPort("0.0.0.0:0"), State: sockets.StateListen, Owned: true},
		{Local: netip.AddrPortFrom(four, 5001), Remote: netip.AddrPortFrom(four, 40000), State: sockets.StateEstablished, Owned: true},
		{Local: netip.AddrPortFrom(six, 5001), Remote: netip.AddrPortFrom(six, 40001), State: sockets.StateCloseWait},
	}, all)
	assert.Error(t, sockets.ParseRows(v4[:len(v4)-1], v6, collect(&all)), "a row is cut")
	assert.Error(t, sockets.ParseRows(nil, v6, collect(&all)))
}

func TestEachSeesAConnection(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	accepted, err := l.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(accepted, make([]byte, 1))
	require.NoError(t, err)

	address := netip.MustParseAddrPort(l.Addr().String())
	found := map[sockets.State]int{}
	err = sockets.Each(func(c sockets.Conn) {
		if c.Local == address {
			found[c.State]++
		}
	})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system does not tell its sockets")
	}
	require.NoError(t, err)
	assert.Equal(t, map[sockets.State]int{sockets.StateListen: 1, sockets.StateEstablished: 1}, found)
}

func FuzzParseProc(f *testing.F) {
	f.Add(procSample)
	f.Add("h\n0: 0100007F:1389 00000000:0000 0A 0:0 0:0 0 0 0 7 1\n")
	f.Fuzz(func(t *testing.T, table string) {
		n := 0
		err := sockets.ParseProc(strings.NewReader(table), func(c sockets.Conn) {
			n++
			assert.True(t, c.Local.Addr().IsValid() && c.Remote.Addr().IsValid())
		})
		if err == nil {
			assert.LessOrEqual(t, n, strings.Count(table, "\n")+1)
		}
	})
}

func FuzzParseRows(f *testing.F) {
	f.Add(append(row(1), row(5, netip.IPv4Unspecified(), uint16(1), netip.IPv4Unspecified(), uint16(2), 3)...), row(0))
	f.Fuzz(func(t *testing.T, v4, v6 []byte) {
		n := 0
		_ = sockets.ParseRows(v4, v6, func(sockets.Conn) { n++ })
		assert.LessOrEqual(t, n, len(v4)/24+len(v6)/56)
	})
}
