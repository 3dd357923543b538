package main

import (
	"testing"

	"github.com/abswap/abswap/switcher/switchertest"
)

func TestRules(t *testing.T) { switchertest.Run(t, newRig) }

func BenchmarkSwitch(b *testing.B) { switchertest.Benchmark(b, newRig) }
