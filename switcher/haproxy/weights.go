package haproxy

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// heaviest is the largest weight that a server can have.
const heaviest = 256

// plan says what each server shall be so that the slots get these parts. The servers of a slot keep the ratio of their configured weights, and
// those of a slot that gets all, or nothing, have these very weights again.
func plan(all map[string]serverState, slots map[string][]string, parts map[string]int, off state) []target {
	weights := map[string]int{}
	if len(parts) > 1 {
		weights = mix(all, slots, parts)
	}
	var targets []target
	for slot, servers := range slots {
		for _, server := range servers {
			t := target{server: server, state: off, weight: all[server].config}
			if parts[slot] > 0 {
				t.state, t.weight = stateReady, cmp.Or(weights[server], max(all[server].config, 1))
			}
			targets = append(targets, t)
		}
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.server, b.server) })
	return targets
}

// mix finds whole weights by which slots get their parts.
func mix(all map[string]serverState, slots map[string][]string, parts map[string]int) map[string]int {
	raw := map[string]float64{}
	largest := 0.0
	for slot, part := range parts {
		sum := 0
		for _, server := range slots[slot] {
			sum += max(all[server].config, 1)
		}
		for _, server := range slots[slot] {
			raw[server] = float64(part) * float64(max(all[server].config, 1)) / float64(sum)
			largest = max(largest, raw[server])
		}
	}
	// A slot of one server has its part as weight; where there are several, finer weights come closer to the ratio.
	scale := 1.0
	for _, servers := range slots {
		if len(servers) > 1 {
			scale = heaviest / largest
		}
	}
	weights := map[string]int{}
	for server, r := range raw {
		weights[server] = min(max(int(math.Round(r*scale)), 1), heaviest)
	}
	return weights
}

// shares tells the slots' parts in per cents that sum up to 100; a slot that gets anything has at least 1. Servers that are down get nothing
// as long as another is up; if none is, the requests that fail are still those of the servers that are on.
func shares(all map[string]serverState, slots map[string][]string) map[string]int {
	for _, onlyUp := range []bool{true, false} {
		sums, sum := map[string]int{}, 0
		for slot, servers := range slots {
			for _, server := range servers {
				if s := all[server]; s.on() && s.weight > 0 && (s.up || !onlyUp) {
					sums[slot] += s.weight
					sum += s.weight
				}
			}
		}
		if sum > 0 {
			return perCents(sums, sum)
		}
	}
	return map[string]int{}
}

// perCents rounds so that the sum is 100: the largest fractions are rounded up.
func perCents(sums map[string]int, sum int) map[string]int {
	type one struct {
		slot string
		rest int
	}
	parts, order, left := map[string]int{}, []one{}, 100
	for slot, n := range sums {
		parts[slot] = max(100*n/sum, 1)
		left -= parts[slot]
		order = append(order, one{slot, 100 * n % sum})
	}
	slices.SortFunc(order, func(a, b one) int { return cmp.Or(cmp.Compare(b.rest, a.rest), strings.Compare(a.slot, b.slot)) })
	for i := 0; left > 0; i++ {
		parts[order[i%len(order)].slot]++
		left--
	}
	for ; left < 0; left++ { // many small ones were lifted to 1: the largest pays
		top := slices.MaxFunc(order, func(a, b one) int {
			return cmp.Or(cmp.Compare(parts[a.slot], parts[b.slot]), strings.Compare(a.slot, b.slot))
		})
		parts[top.slot]--
	}
	return parts
}

// hasTable tells whether "show table" lists a stick table of that proxy.
func hasTable(text, proxy string) bool {
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "# table: ")
		if !ok {
			continue
		}
		if name, _, _ = strings.Cut(name, ","); strings.TrimSpace(name) == proxy {
			return true
		}
	}
	return false
}
