package h1

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sink is a connection that keeps what is written to it, or only counts it.
type sink struct {
	net.Conn
	kept *bytes.Buffer
	n    int
}

func (s *sink) Write(p []byte) (int, error) {
	s.n += len(p)
	if s.kept != nil {
		s.kept.Write(p)
	}
	return len(p), nil
}

// Pieces of any length are wrapped without a change, and without memory of their own.
func TestWrappedPieces(t *testing.T) {
	for _, n := range []int{1, tinySize, smallSize, largeSize - chunkRoom, largeSize - chunkRoom + 1, largeSize, 3*largeSize + 7} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rand.Uint32())
		}
		to := &sink{kept: &bytes.Buffer{}}
		x := &Exchange{conn: &conn{link: link{Conn: to}}}
		require.NoError(t, x.write(p, true))
		to.kept.WriteString(lastChunk)
		got, err := io.ReadAll(httputil.NewChunkedReader(to.kept))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(p, got), "%d bytes came as %d others", n, len(got))
	}

	p := make([]byte, largeSize) // as much as one read brings
	to := &sink{}
	x := &Exchange{conn: &conn{link: link{Conn: to}}}
	const times = 400 // with the race detector a pool forgets some
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		require.NoError(t, x.write(p, true))
	}
	runtime.ReadMemStats(&after)
	assert.Greater(t, to.n, times*largeSize)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(times*largeSize/2), "each piece took memory")
}
