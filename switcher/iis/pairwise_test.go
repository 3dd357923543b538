package iis_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// manners are the quirks that change how appcmd speaks, or when things happen, and no promise.
func manners() []string {
	return []string{"WarmPerWorker", "AlreadyInStateFails", "SuccessLineBeforeCommit", "EmptyListFails", "StopPoolBlocks", "XMLErrors", "XMLErrorHResult",
		"XMLDeclaration", "DoubledQuotes", "RPCErrorAfterPoolChange", "StoppedSiteRefuses", "RecycleAnswers503", "OneInProcessAppPerWorker"}
}

// pairs returns rows of n switches in which each two switches meet in all four ways: row by row the one that covers most of what is left.
func pairs(n int) [][]bool {
	type pair struct {
		i, j int
		a, b bool
	}
	left := map[pair]bool{}
	for i := range n {
		for j := i + 1; j < n; j++ {
			for k := range 4 {
				left[pair{i, j, k&1 != 0, k&2 != 0}] = true
			}
		}
	}
	var rows [][]bool
	for len(left) > 0 {
		row := make([]bool, n)
		for i := range n {
			gain := [2]int{}
			for p := range left {
				for v, value := range []bool{false, true} {
					if p.j == i && p.b == value && row[p.i] == p.a || p.i == i && p.a == value {
						gain[v]++
					}
				}
			}
			row[i] = gain[1] > gain[0] || gain[1] == gain[0] && (i+len(rows))%2 == 1
		}
		before := len(left)
		for p := range left {
			if row[p.i] == p.a && row[p.j] == p.b {
				delete(left, p)
			}
		}
		if len(left) == before { // nothing new: take one that is left as it is
			for p := range left {
				row[p.i], row[p.j] = p.a, p.b
				break
			}
			for p := range left {
				if row[p.i] == p.a && row[p.j] == p.b {
					delete(left, p)
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func TestPairsMeet(t *testing.T) {
	rows := pairs(8)
	for i := range 8 {
		for j := i + 1; j < 8; j++ {
			seen := map[[2]bool]bool{}
			for _, r := range rows {
				seen[[2]bool{r[i], r[j]}] = true
			}
			assert.Len(t, seen, 4, "%d and %d", i, j)
		}
	}
	assert.Less(t, len(rows), 30)
}

// TestManners takes appcmd in all its manners, pair by pair, which must change nothing of what is promised. In its short form each row is
// tried with one strategy.
func TestManners(t *testing.T) {
	t.Parallel()
	names := manners()
	for n, row := range pairs(len(names)) {
		for i, strategy := range allStrategies() {
			if !*full && n%3 != i {
				continue
			}
			s := setting{strategy: strategy, mode: allModes()[(n+i)%3], noRotation: true}.with(iis.FactsWith(""))
			for k, name := range names {
				for _, q := range iistest.Table() {
					if q.Name == name {
						*q.Field(&s.quirks) = iistest.Off
						if row[k] {
							*q.Field(&s.quirks) = iistest.On
						}
					}
				}
			}
			s.quirks.RequestSpelling = iistest.RequestSpelling(n % 3)
			s.quirks.NoChangeExit = []uint32{0, 42}[n%2]
			s.language = iistest.Language(n % 2)
			t.Run(fmt.Sprintf("%d", n), func(t *testing.T) {
				t.Parallel()
				named(t, s, func(t *testing.T, s setting) {
					some := []string{"S3/upload", "S4/idem", "S5/disturbed-act", "D1/upload"}
					if *full {
						some = []string{"S", "D1", "D2"}
					}
					s.assertTable(t, rules(some...))
				})
			})
		}
	}
}
