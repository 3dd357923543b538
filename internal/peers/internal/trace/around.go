package trace

import (
	"math"
	"slices"
)

// Bin is a slice of time relative to a swap command; what happened in it around all swaps of a trace is taken together.
type Bin struct {
	From, To       float64 // microseconds after the command; negative: before it
	N, Failed      int
	P50, P99, Most float64 // latency in microseconds; NaN if nothing was answered
	New            float64 // the share of the answers that the version swapped to has given; NaN if there is none
}

// Around lays all swaps on top of each other and cuts the time from before to after them into bins of that width, all in microseconds. A
// request belongs to the swap whose window it was due in.
func (t *Trace) Around(before, after, width float64) []Bin {
	bins := make([]Bin, int(math.Ceil((before+after)/width)))
	lat := make([][]float64, len(bins))
	fresh := make([]int, len(bins))
	for _, s := range t.Swaps {
		for _, r := range t.Requests {
			at := r.Due - s.Cmd + before
			if at < 0 || at >= before+after {
				continue
			}
			i := int(at / width)
			bins[i].N++
			if r.Failed != "" {
				bins[i].Failed++
				continue
			}
			lat[i] = append(lat[i], r.Latency)
			if r.Version == s.To {
				fresh[i]++
			}
		}
	}
	for i := range bins {
		b := &bins[i]
		b.From, b.To = float64(i)*width-before, float64(i+1)*width-before
		l := lat[i]
		slices.Sort(l)
		if len(l) == 0 {
			b.P50, b.P99, b.Most, b.New = math.NaN(), math.NaN(), math.NaN(), math.NaN()
			continue
		}
		b.P50, b.P99, b.Most = l[len(l)/2], l[int(.99*float64(len(l)-1))], l[len(l)-1]
		b.New = float64(fresh[i]) / float64(len(l))
	}
	return bins
}

// AckMedian is the median time from a swap command to its acknowledgement.
func (t *Trace) AckMedian() float64 {
	var a []float64
	for _, s := range t.Swaps {
		a = append(a, s.Ack-s.Cmd)
	}
	if len(a) == 0 {
		return math.NaN()
	}
	slices.Sort(a)
	return a[len(a)/2]
}
