package framing

import (
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newJudge(t *testing.T, d door) *Judge {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	up := NewRecorder(l)
	t.Cleanup(up.Close)
	return &Judge{Address: d.serve(t, up.Addr()), Upstream: up}
}

func TestTheTableIsInOrder(t *testing.T) {
	names := map[string]bool{}
	count := map[Outcome]int{}
	for _, v := range Vectors() {
		assert.False(t, names[v.Name], "%q twice", v.Name)
		names[v.Name] = true
		assert.NotEmpty(t, v.Why, v.Name)
		count[v.Want]++
		if v.Want == Forwarded {
			assert.NotEmpty(t, v.Requests, v.Name)
			assert.Empty(t, v.Status, v.Name)
		} else {
			assert.NotEmpty(t, v.Status, v.Name)
			assert.Empty(t, v.Or, v.Name)
		}
	}
	assert.GreaterOrEqual(t, count[Refused], 100)
	assert.GreaterOrEqual(t, count[BrokenOff], 30)
	assert.GreaterOrEqual(t, count[Forwarded], 60)
}

func TestAStrictDoorPasses(t *testing.T) {
	for name, pace := range map[string]Pace{"whole": Whole, "byte by byte": ByteByByte} {
		t.Run(name, func(t *testing.T) {
			j := newJudge(t, door{})
			for _, v := range Vectors() {
				assert.NoError(t, j.Check(t.Context(), v, pace))
			}
			assert.NoError(t, j.End(t.Context()))
		})
	}
}

// failing returns the names of the vectors that the door is wrong about.
func failing(t *testing.T, d door, vectors []Vector) []string {
	j := newJudge(t, d)
	j.Patience = 200 * time.Millisecond // it is to fail: what is missing need not be waited for
	var out []string
	for _, v := range vectors {
		failed := j.Check(t.Context(), v, Whole) != nil
		// A part of a request that the application has got, and has not looked at yet, is found soon.
		for until := time.Now().Add(j.Patience); !failed && time.Now().Before(until); time.Sleep(time.Millisecond) {
			failed = j.End(t.Context()) != nil
		}
		if failed {
			out = append(out, v.Name)
		}
	}
	return out
}

func named(vectors []Vector, f func(Vector) bool) []string {
	var out []string
	for _, v := range vectors {
		if f(v) {
			out = append(out, v.Name)
		}
	}
	return out
}

func TestADoorThatPassesOnWhatItDoesNotUnderstandFailsAllThatIsWrong(t *testing.T) {
	wrong := slices.DeleteFunc(Vectors(), func(v Vector) bool { return v.Want == Forwarded || len(v.Raw) > 1<<20 })
	wrong = slices.DeleteFunc(wrong, func(v Vector) bool { return v.End }) // the application sees the end as well as the door
	assert.Equal(t, named(wrong, func(Vector) bool { return true }), failing(t, door{tunnel: true}, wrong))
}

func TestADoorThatRefusesAllFailsAllThatIsRight(t *testing.T) {
	right := slices.DeleteFunc(Vectors(), func(v Vector) bool { return v.Want != Forwarded })
	assert.Equal(t, named(right, func(v Vector) bool { return v.Or == nil }), failing(t, door{refuseAll: true}, right))
}

func TestADoorThatIsWrongInOneWayFailsThere(t *testing.T) {
	some := map[string]Vector{}
	for _, v := range Vectors() {
		some[v.Name] = v
	}
	for name, tc := range map[string]struct {
		door  door
		fails []string
	}{
		"goes on behind a refusal":          {door{keepOpen: true}, []string{"CL.TE", "chunk size with a plus", "pipeline into CL.TE"}},
		"serves what stands behind a close": {door{goOn: true}, []string{"close, then another", "HTTP/1.0, then another", "HTTP/1.0"}},
		"does not say why":                  {door{silent: true}, []string{"CL.TE", "chunk size empty", "host missing"}},
		"hangs":                             {door{hang: true}, []string{"CL twice, differing", "pipeline into a double length"}},
		"lets a part through":               {door{partial: true}, []string{"CL.TE", "field folded", "host twice"}},
		"sends all twice":                   {door{twice: true}, []string{"TE chunked", "pipeline of two"}},
		"answers by itself":                 {door{answerItes: true}, []string{"TE chunked", "pipeline of two", "HTTP/1.0"}},
		"cuts bodies":                       {door{cutBody: true}, []string{"TE chunked", "CL in capitals", "chunk that looks like the end"}},
		"normalises targets":                {door{badTarget: true}, []string{"target with dots", "target of two slashes"}},
		"believes the field":                {door{fieldHost: true}, []string{"target in absolute form of another host"}},
		"drops what it is told":             {door{dropFields: true}, []string{"CL named as hop-by-hop", "TE named as hop-by-hop"}},
		"makes trailers fields":             {door{mergeTrails: true}, []string{"trailer"}},
		"mixes up answers":                  {door{swap: true}, []string{"pipeline of two"}},
	} {
		t.Run(name, func(t *testing.T) {
			var vectors []Vector
			for _, n := range tc.fails {
				require.Contains(t, slices.Collect(maps.Keys(some)), n)
				vectors = append(vectors, some[n])
			}
			assert.Equal(t, tc.fails, failing(t, tc.door, vectors))
		})
	}
}

func TestWhatComesLateIsFound(t *testing.T) {
	j := newJudge(t, door{})
	require.NoError(t, j.Check(t.Context(), Vectors()[0], Whole))
	require.NoError(t, j.End(t.Context()))
	c, err := net.Dial("tcp", j.Upstream.Addr())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte(smuggled))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
	assert.ErrorContains(t, j.End(t.Context()), "behind the last vector")
}
