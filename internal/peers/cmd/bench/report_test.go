//go:build linux

package main

import (
	"strings"
	"testing"
)

const lines = `{"round":1,"suite":"keep","setting":"shared","peer":"ours","test":"max","raw":{"rps":100,"CPUus":10}}
{"round":1,"suite":"keep","setting":"shared","peer":"nginx","test":"max","raw":{"rps":50,"CPUus":20}}
{"round":1,"suite":"keep","setting":"shared","peer":"haproxy","test":"max","raw":{"rps":40,"CPUus":40}}
{"round":2,"suite":"keep","setting":"shared","peer":"ours","test":"max","raw":{"rps":300,"CPUus":30}}
{"round":2,"suite":"keep","setting":"shared","peer":"nginx","test":"max","raw":{"rps":50,"CPUus":60}}
{"round":2,"suite":"keep","setting":"shared","peer":"haproxy","test":"max","raw":{"rps":40,"CPUus":20}}
{"round":2,"suite":"keep","setting":"shared","peer":"haproxy","test":"error","raw":{"err":"lost"}}
`

func TestEachTableTellsTheRatiosOfWhatCounts(t *testing.T) {
	for _, x := range tables {
		i := x.mainColumn()
		if i < 0 {
			t.Errorf("%s has none", x.title)
			continue
		}
		want := "CPU"
		switch x.suite {
		case "swap":
			want = "ack ms"
		case "hold":
			want = "KiB/conn"
		}
		if !strings.HasPrefix(x.cols[i].head, want) {
			t.Errorf("%s tells those of %q", x.title, x.cols[i].head)
		}
	}
}

func TestTheTableHasMediansAndRatiosWithinARound(t *testing.T) {
	res, err := readResults(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	res.report(&b)
	for _, want := range []string{
		"saturated (wrk, 64 connections), shared",
		"| ours | 2 | 200 (100–300) | 20.0 (10.0–30.0) | – | – | 1.00 | 0.50 | 0.88 | – | – |", // 10/20 and 30/20; 10/20 and 30/60; 10/40 and 30/20
		"| nginx | 2 | 50 | 40.0 (20.0–60.0) | – | – | 2.00 | – | 1.75 | – | – |",
		"ERROR keep shared haproxy: lost",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if _, err := readResults(strings.NewReader("{")); err == nil {
		t.Error("half a line is read")
	}
}
