package arr

import (
	"fmt"
	"slices"
	"strings"
)

// Way is a way to move new work between the slots of a farm.
type Way string

// The ways.
const (
	WayStates     Way = "states"      // Switcher.Activate and Seal
	WayWeights    Way = "weights"     // Switcher.SetWeights
	WayHealthFile Way = "health file" // HealthFile.Activate
)

// Case is a way under given circumstances. The zero value of each circumstance is the good one.
type Case struct {
	Way   Way
	Facts Facts

	Hash     bool // the farm's algorithm is RequestHash
	Sessions bool // the farm has affinity by cookie, Config.KeepSessions is set, and a client has its cookie
	Recycled bool // ARR's pool was recycled, and no Keeper has looked since
	Stopped  bool // old members are stopped, and no health test has seen it yet
	Meddled  bool // somebody else makes old members answer the health test
	TooLong  bool // a request takes longer than the farm's protocol.timeout
}

// Refused is the Rule of a Loss where the way does not work at all, and says so.
const Refused = "refused"

// Loss is a promise of abswap.Switcher that is not kept in a Case.
type Loss struct {
	Rule string // "S1", "S2", "S3", or Refused
	Why  string
	Cure string // what helps
}

// trap is a line of the table: where all of its conditions hold, the rule is broken.
type trap struct {
	ways      []Way
	when      string          // as the table says it
	holds     func(Case) bool // whether it is so
	rule      string
	why, cure string
}

// traps is the table of the package's comment, as Check and the tests use it.
func traps() []trap {
	farm := []Way{WayStates, WayWeights}
	return []trap{
		{ways: farm, when: "Recycled", holds: func(c Case) bool { return c.Recycled }, rule: "S1",
			why: "ARR forgets the states of members with its worker process, and takes all for available", cure: "run a Keeper, and make ARR's pool immortal"},
		{ways: farm, when: "Recycled, Stopped", holds: func(c Case) bool { return c.Recycled && c.Stopped }, rule: "S2",
			why: "ARR forgets the states of members with its worker process, and sends requests to those that are stopped", cure: "run a Keeper, and retain old slots instead of stopping them"},
		{ways: farm, when: "Sessions", holds: func(c Case) bool { return c.Sessions }, rule: "S1",
			why: "clients with an affinity cookie stay with the old slot, as was asked for", cure: "leave Config.KeepSessions unset, or Seal the slot"},
		{ways: []Way{WayWeights}, when: "Hash", holds: func(c Case) bool { return c.Hash }, rule: Refused,
			why: "the algorithm RequestHash knows no weights", cure: "use WeightedRoundRobin"},
		{ways: []Way{WayWeights}, when: "Facts.CommitRestartsMembers", holds: func(c Case) bool { return c.Facts.CommitRestartsMembers == Yes }, rule: "S3",
			why:  "a weight is a commit to the farm, which restarts ASP.NET Core applications of members: what is warm is cold, and old requests have the application's shutdown time",
			cure: "set disallowRotationOnConfigChange in the handlerSettings of the members' web.config (.NET 7 and later)"},
		{ways: []Way{WayWeights}, when: "Facts.CommitForgetsStates", holds: func(c Case) bool { return c.Facts.CommitForgetsStates == Yes }, rule: "S1",
			why: "a weight is a commit to the farm, after which ARR has all members available, until SetWeights has set the states again", cure: "stop or disable members of slots that take no part"},
		{ways: []Way{WayHealthFile}, when: "Meddled", holds: func(c Case) bool { return c.Meddled }, rule: "S1",
			why: "a member that answers the health test gets requests", cure: "let nobody else write the health files"},
		{ways: []Way{WayStates, WayWeights, WayHealthFile}, when: "TooLong", holds: func(c Case) bool { return c.TooLong }, rule: "S3",
			why: "ARR answers 502.3 when a member has not answered in the farm's time", cure: "set protocol.timeout above the longest request"},
	}
}

// Losses tells which promises are not kept in c. Facts that are NotKnown are taken as No: see Facts for what Check makes of them.
func (c Case) Losses() []Loss {
	var all []Loss
	for _, t := range traps() {
		if slices.Contains(t.ways, c.Way) && t.holds(c) {
			all = append(all, Loss{t.rule, t.why, t.cure})
		}
	}
	return all
}

// tableText is the table as it stands in the package's comment: a line for each trap.
func tableText() string {
	var b strings.Builder
	for _, t := range traps() {
		ways := "each way"
		if len(t.ways) < 3 {
			names := make([]string, len(t.ways))
			for i, w := range t.ways {
				names[i] = string(w)
			}
			ways = strings.Join(names, ", ")
		}
		fmt.Fprintf(&b, "%-15s | %-27s | %s\n", ways, t.when, t.rule)
	}
	return b.String()
}
