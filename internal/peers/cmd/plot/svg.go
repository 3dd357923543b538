package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/abswap/abswap/internal/peers/internal/trace"
)

// The picture, in pixels; the times in microseconds.
const (
	left, right = 64, 16
	wide, high  = 760, 150 // of a panel's field
	gap         = 52       // between panels
	top         = 44

	before, after, width = 60e3, 180e3, 4e3
	least, most          = 10.0, 1e6 // of the latency axis, which is logarithmic
)

// draw returns the picture as SVG.
func draw(all []*trace.Trace) []byte {
	var b bytes.Buffer
	h := top + len(all)*(high+gap) + 24
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		left+wide+right, h, left+wide+right, h)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(&b, `<text x="%d" y="16" font-size="13">Latency of requests around a swap; all swaps of a run on top of each other, in slices of %g ms</text>`+"\n", left, width/1e3)
	at := left
	for _, k := range []struct {
		colour, what string
	}{{"#1f77b4", "median"}, {"#ff7f0e", "99 of 100"}, {"#999999", "worst"}, {"#2ca02c", "share answered by the new version"}, {"#d62728", "failed requests"}} {
		fmt.Fprintf(&b, `<rect x="%d" y="25" width="14" height="4" fill="%s"/><text x="%d" y="31">%s</text>`+"\n", at, k.colour, at+18, k.what)
		at += 40 + 7*len(k.what) // no letter of the font is wider, on average
	}
	for i, t := range all {
		panel(&b, t, float64(top+i*(high+gap)+14))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">milliseconds after the swap command</text>`+"\n</svg>\n", left+wide/2, h-8)
	return b.Bytes()
}

// x and y are where a time after the command and a latency lie.
func x(us float64) float64 { return left + (us+before)/(before+after)*wide }

func y(at, us float64) float64 {
	us = min(max(us, least), most)
	return at + high - high*math.Log10(us/least)/math.Log10(most/least)
}

func panel(b *bytes.Buffer, t *trace.Trace, at float64) {
	bins := t.Around(before, after, width)
	failed := 0
	for _, x := range bins {
		failed += x.Failed
	}
	ack := t.AckMedian()
	fmt.Fprintf(b, `<text x="%d" y="%.1f" font-weight="bold">%s</text><text x="%d" y="%.1f" text-anchor="end">%d swaps, acknowledged after %.2f ms (median), %d failed requests</text>`+"\n",
		left, at-5, html.EscapeString(t.Name), left+wide, at-5, len(t.Swaps), ack/1e3, failed)
	for us := least; us <= most; us *= 10 {
		label := fmt.Sprintf("%g µs", us)
		if us >= 1e3 {
			label = fmt.Sprintf("%g ms", us/1e3)
		}
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#e5e5e5"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, left+wide, y(at, us), y(at, us), left-6, y(at, us)+4, label)
	}
	for us := -before; us <= after; us += 20e3 {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`+"\n", x(us), at+high+13, us/1e3)
	}
	fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="%d" height="%d" fill="none" stroke="#888"/>`+"\n", left, at, wide, high)
	fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="black" stroke-dasharray="3 3"/>`+"\n", x(0), x(0), at, at+high)

	line := func(colour string, width float64, f func(trace.Bin) float64) {
		for _, run := range runs(bins, f) {
			fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="%g" points="%s"/>`+"\n", colour, width, strings.Join(run, " "))
		}
	}
	middle := func(k trace.Bin) float64 { return x((k.From + k.To) / 2) }
	of := func(value func(trace.Bin) float64) func(trace.Bin) float64 {
		return func(k trace.Bin) float64 { return y(at, value(k)) }
	}
	line("#999999", 1, of(func(k trace.Bin) float64 { return k.Most }))
	line("#ff7f0e", 1.2, of(func(k trace.Bin) float64 { return k.P99 }))
	line("#1f77b4", 1.8, of(func(k trace.Bin) float64 { return k.P50 }))
	line("#2ca02c", 1, func(k trace.Bin) float64 { return at + high*(1-k.New) })
	for _, k := range bins {
		if k.Failed > 0 {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="#d62728"><title>%d failed</title></circle>`+"\n", middle(k), at+6, 2+math.Log10(float64(k.Failed)), k.Failed)
		}
	}
}

// runs returns the points of a line, broken where there is nothing.
func runs(bins []trace.Bin, f func(trace.Bin) float64) [][]string {
	var out [][]string
	var run []string
	for _, k := range bins {
		v := f(k)
		if math.IsNaN(k.P50) || math.IsNaN(v) {
			if len(run) > 0 {
				out = append(out, run)
			}
			run = nil
			continue
		}
		run = append(run, fmt.Sprintf("%.1f,%.1f", x((k.From+k.To)/2), v))
	}
	if len(run) > 0 {
		out = append(out, run)
	}
	return out
}
