package nginx

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What the kernel's socket diagnosis tells of sockets of ours is what the files tell of them.
func TestBothTablesTellTheSame(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", network)
		if err != nil && network != "127.0.0.1:0" {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		require.NoError(t, err)
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		server, err := l.Accept()
		require.NoError(t, err)
		defer server.Close()
		ours := netip.MustParseAddrPort(l.Addr().String())
		of := func(all []socket) []socket {
			all = slices.DeleteFunc(slices.Clone(all), func(x socket) bool {
				return x.local != ours && x.remote != ours || x.inode == 0 // nobody's: a client of whoever had this port before
			})
			slices.SortFunc(all, func(a, b socket) int { return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(a.inode, b.inode)) })
			return all
		}
		diagnosed, err := diagnose(anyState)
		if err != nil {
			t.Skipf("no socket diagnosis here: %v", err)
		}
		require.Len(t, of(diagnosed), 3, "the listener and both ends")
		seen := map[socket]bool{}
		for end := time.Now().Add(3 * time.Minute); len(seen) < 3 && time.Now().Before(end); { // each may take seconds beside many sockets
			files, err := tableFiles(os.Getpid()) // piece by piece: it may miss one while others come and go
			require.NoError(t, err)
			for _, x := range of(files) {
				seen[x] = true
			}
		}
		require.Equal(t, of(diagnosed), of(slices.Collect(maps.Keys(seen))))

		listening, err := listenersOf(os.Getpid())
		require.NoError(t, err)
		require.Len(t, of(listening), 1)
		assert.Equal(t, stateListen, of(listening)[0].state)
		own, err := socketsOf(os.Getpid())
		require.NoError(t, err)
		for _, x := range of(diagnosed) {
			assert.True(t, own[x.inode], "%+v is a socket of this process", x)
			assert.Equal(t, uint32(os.Getuid()), x.user)
		}
	}
}

// Whatever the kernel sends: it is read or refused, and never read beyond its end.
func FuzzDiag(f *testing.F) {
	row := make([]byte, unix.SizeofNlMsghdr+diagAnswer)
	binary.NativeEndian.PutUint32(row, uint32(len(row)))
	binary.NativeEndian.PutUint16(row[4:], unix.SOCK_DIAG_BY_FAMILY)
	row[unix.SizeofNlMsghdr], row[unix.SizeofNlMsghdr+1] = unix.AF_INET, stateListen
	done := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint32(done, uint32(len(done)))
	binary.NativeEndian.PutUint16(done[4:], unix.NLMSG_DONE)
	refused := slices.Clone(done)
	binary.NativeEndian.PutUint16(refused[4:], unix.NLMSG_ERROR)
	f.Add(append(slices.Clone(row), done...))
	f.Add(refused)
	f.Add(row[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		all, done, err := parseDiag(b)
		assert.LessOrEqual(t, len(all)*diagAnswer, len(b))
		if err != nil {
			assert.True(t, done)
		}
	})
}

func FuzzChildren(f *testing.F) {
	f.Add("13230 147 \n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseChildren(text)
		if err != nil {
			return
		}
		for _, pid := range all {
			assert.Positive(t, pid)
		}
	})
}
