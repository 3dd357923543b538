package nginx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// markKind begins every mark.
const markKind = "abswap/1"

// Mark is what the front door answers: which configuration the worker process that answered has loaded, in its own words.
type Mark struct {
	Name       string         // of the site
	Generation int64          // grows with each switch
	Digest     string         // of the part of the file that leads requests: two files of one generation are told apart by it
	Weights    map[string]int // in per cents, all slots
	Route      string         // the upstream group that the asking request was led to; "" in a file
}

// String returns the mark as it is answered: "abswap/1 mysite 17 3f2a90c1 blue:100,green:0 abswap_mysite_blue".
func (m Mark) String() string {
	var parts []string
	for _, slot := range slices.Sorted(maps.Keys(m.Weights)) {
		parts = append(parts, slot+":"+strconv.Itoa(m.Weights[slot]))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %d %s %s %s", markKind, m.Name, m.Generation, m.Digest, strings.Join(parts, ","), m.Route))
}

// same tells whether both are of one file.
func (m Mark) same(o Mark) bool {
	m.Route, o.Route = "", ""
	return m.String() == o.String()
}

// leads lists the slots that get requests. It is not nil.
func (m Mark) leads() []string {
	names := []string{}
	for _, slot := range slices.Sorted(maps.Keys(m.Weights)) {
		if m.Weights[slot] > 0 {
			names = append(names, slot)
		}
	}
	return names
}

// ParseMark reads what String returns.
func ParseMark(text string) (Mark, error) {
	fail := func(why string) (Mark, error) { return Mark{}, fmt.Errorf("%.80q is not a mark: %s", text, why) }
	f := strings.Split(text, " ")
	if len(f) != 5 && len(f) != 6 || f[0] != markKind {
		return fail("it is not of the form " + markKind + " NAME GENERATION DIGEST SLOT:PART,... ROUTE")
	}
	m := Mark{Name: f[1], Digest: f[3], Weights: map[string]int{}}
	if !nameForm.MatchString(m.Name) {
		return fail("no name")
	}
	if !digestForm.MatchString(m.Digest) {
		return fail("no digest")
	}
	var err error
	if m.Generation, err = strconv.ParseInt(f[2], 10, 64); err != nil || m.Generation < 0 || strconv.FormatInt(m.Generation, 10) != f[2] {
		return fail("no generation")
	}
	if m.Weights, err = parseWeights(f[4]); err != nil {
		return fail(err.Error())
	}
	if len(f) == 6 {
		if m.Route = f[5]; !slotForm.MatchString(m.Route) && len(m.Route) < 200 {
			return fail("no route")
		}
	}
	return m, nil
}

// parseWeights reads SLOT:PART,SLOT:PART with a sum of 100, or of 0 where no slot gets anything.
func parseWeights(text string) (map[string]int, error) {
	weights, sum := map[string]int{}, 0
	for pair := range strings.SplitSeq(text, ",") {
		slot, part, _ := strings.Cut(pair, ":")
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 100 || strconv.Itoa(n) != part || !slotForm.MatchString(slot) {
			return nil, fmt.Errorf("no weight: %.80q", pair)
		}
		if _, twice := weights[slot]; twice {
			return nil, fmt.Errorf("slot %q twice", slot)
		}
		weights[slot] = n
		sum += n
	}
	if sum != 100 && sum != 0 {
		return nil, errors.New("the weights sum up to neither 100 nor 0")
	}
	return weights, nil
}
