package iis_test

import (
	"testing"

	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/switchertest"
)

func TestTry(t *testing.T) {
	for _, s := range []iis.Strategy{iis.StrategyRootSwap, iis.StrategySiteToggle, iis.StrategyBindingSwap} {
		t.Run(string(s), func(t *testing.T) {
			st := setting{strategy: s, mode: iis.Classic}
			switchertest.Run(t, st.rig)
		})
	}
}
