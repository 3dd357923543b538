package route

import (
	"slices"
	"sync/atomic"
)

// state is one routing decision, immutable but for the ticket counter of its picks. Each publication makes a new one; as long as a request
// holds the pointer that it loaded, that address cannot be used for another state.
type state[T any] struct {
	parts []Part[T]        // only those above 0
	set   []Part[T]        // what they were set to; parts is less where one is sick
	only  *Generation[T]   // the one that has all; nil: see picks
	picks []*Generation[T] // pickCount of them, in the order in which they are handed out; empty if only is set, or nothing takes work
	next  *ticket
	shut  shut // 0: entries may enter

	keeping   []*Generation[T] // without a part: sessions that began in them are led there
	previewed []*Generation[T] // with a part or without: previews are led there
}

// ticket hands out the places in state.picks. It has cache lines of its own.
type ticket struct {
	_     [128]byte
	n     atomic.Uint64
	again atomic.Uint64 // for second picks, so that these do not shift the first ones
	_     [128]byte
}

// pickCount is the length of one round of picks: of any hundred picks in a row from one state each generation gets exactly its part.
const pickCount = 100

func newState[T any](parts []Part[T]) *state[T] {
	s := &state[T]{parts: parts, set: parts}
	switch len(parts) {
	case 0:
	case 1:
		s.only = parts[0].Gen
	default:
		s.picks = spread(parts)
		s.next = new(ticket)
	}
	return s
}

// spread returns a round of picks in which each generation has its part, as evenly spread as it goes: at every pick all generations earn
// their part, and the one that has earned most is picked and pays for it.
func spread[T any](parts []Part[T]) []*Generation[T] {
	earned := make([]int, len(parts))
	picks := make([]*Generation[T], pickCount)
	for i := range picks {
		best := 0
		for j, p := range parts {
			earned[j] += p.Part
			if earned[j] > earned[best] {
				best = j
			}
		}
		earned[best] -= pickCount
		picks[i] = parts[best].Gen
	}
	return picks
}

// pick returns the generation that the next request goes to; nil if none takes work. avoid is one that could not be reached just now: the
// others share such requests in about the ratio of their parts, and only if there is no other it is returned all the same.
func (s *state[T]) pick(avoid *Generation[T]) *Generation[T] {
	if s.only != nil || len(s.picks) == 0 {
		return s.only
	}
	if avoid == nil {
		return s.picks[(s.next.n.Add(1)-1)%pickCount]
	}
	n := s.next.again.Add(1)
	for i := range uint64(pickCount) {
		if g := s.picks[(n+i)%pickCount]; g != avoid {
			return g
		}
	}
	return avoid // not reached: there are at least two
}

// part returns the part that g was given; 0 if it takes no new work.
func (s *state[T]) part(g *Generation[T]) int {
	for _, p := range s.set {
		if p.Gen == g {
			return p.Part
		}
	}
	return 0
}

// scale makes the parts sum up to 100 again and keeps their ratio; what rounding leaves over goes to the largest remainders.
func scale[T any](parts []Part[T]) []Part[T] {
	sum := 0
	for _, p := range parts {
		sum += p.Part
	}
	if sum == 0 || sum == pickCount {
		return parts
	}
	out := slices.Clone(parts)
	rest := make([]int, len(parts))
	left := pickCount
	for i, p := range parts {
		out[i].Part, rest[i] = p.Part*pickCount/sum, p.Part*pickCount%sum
		left -= out[i].Part
	}
	for ; left > 0; left-- {
		most := 0
		for i := range rest {
			if rest[i] > rest[most] {
				most = i
			}
		}
		out[most].Part++
		rest[most] = -1
	}
	return out
}
