package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
)

// draining is what a Swapper tells while an old slot drains for a minute.
func draining(p *progress) {
	p.event(abswap.Event{Kind: abswap.EventPhase, Phase: abswap.PhaseDraining, From: "blue", To: "green"})
	for left := 60; left >= 0; left-- {
		time.Sleep(time.Second)
		p.event(abswap.Event{Kind: abswap.EventLoad, Slot: "blue", Load: abswap.Load{Requests: left, Upgraded: 1, Evidence: abswap.EvidenceExact}})
	}
	p.event(abswap.Event{Kind: abswap.EventDone, Phase: abswap.PhaseDraining, Slot: "blue", Elapsed: time.Minute})
	p.event(abswap.Event{Kind: abswap.EventDone, Phase: abswap.PhaseStopping, Result: abswap.ResultLeft, Err: errors.New("it will not")})
	p.summary(abswap.Report{ID: "x", Outcome: abswap.OutcomeStillDraining, Serving: "green", Drains: []abswap.DrainResult{
		{Left: []abswap.Work{{Kind: "request", Method: "PUT", Path: "/big", Peer: "10.0.0.7:1", Age: time.Hour, In: 7}}}}}, nil)
}

func TestProgressInALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, false, false)
		draining(p)
		p.close()
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for _, line := range lines {
			assert.Regexp(t, `^2000-01-01T00:0\d:\d\dZ \S`, line)
		}
		assert.NotContains(t, out.String(), "\r")
		counts := regexp.MustCompile(`slot blue: \d+ requests? and 1 upgraded connection left`).FindAllString(out.String(), -1)
		assert.Len(t, counts, 13, "one in five seconds")
		assert.Contains(t, out.String(), "slot blue has finished all it had, after 1m0s")
		assert.Contains(t, out.String(), "stopping: left: it will not")
		assert.Contains(t, out.String(), "still-draining; slot green serves")
		assert.Contains(t, out.String(), "left: request PUT /big from 10.0.0.7:1, 1h0m0s old, 7 bytes in, 0 out")
	})
}

func TestProgressOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, false, true)
		draining(p)
		p.close()
		p.close()
		assert.Contains(t, out.String(), "\r         slot blue: 42 requests and 1 upgraded connection left, for 19s")
		screen := onScreen(out.String())
		assert.NotContains(t, screen, "left, for", "the live line is wiped")
		assert.Contains(t, screen, "00:00:00 the old slot finishes what it has\n")
		for line := range strings.SplitSeq(screen, "\n") {
			assert.Regexp(t, `^(\d\d:\d\d:\d\d \S.*)?$`, line)
		}
	})
}

// onScreen is what is left to be seen of a text with carriage returns.
func onScreen(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		var cells []rune
		for i, part := range strings.Split(line, "\r") {
			r := []rune(part)
			if i == 0 || len(r) >= len(cells) {
				cells = r
				continue
			}
			copy(cells, r)
		}
		lines = append(lines, strings.TrimRight(string(cells), " "))
	}
	return strings.Join(lines, "\n")
}
