package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
)

// TestDrainIsToldByClass: what is left of each class, at most once a second, and its end at once.
func TestDrainIsToldByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, time.Now())
		tell := func(n int, by map[abswap.Class]abswap.ClassOutcome) {
			p.event(abswap.Event{Kind: abswap.EventLoad, Slot: "blue", Load: abswap.Load{Requests: n}, Classes: by})
		}
		for range 3 {
			tell(4, map[abswap.Class]abswap.ClassOutcome{abswap.ClassTunnel: {Left: 3}, abswap.ClassUpload: {Left: 1}, abswap.ClassRequest: {Finished: 7}})
		}
		time.Sleep(time.Second)
		tell(1, nil)
		tell(0, nil)
		assert.Equal(t, "  0.00s      blue: 3 tunnels, 1 upload left\n  1.00s      blue: 1 piece of work left\n  1.00s      blue: nothing left\n", out.String())
	})
}
