//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
)

type column struct {
	head, path string
	scale      float64
	prec       int
	ratio      int // 0 none, 1 more is better, -1 less is better
}

type table struct {
	title, suite, test string
	cols               []column
}

var tables = []table{
	{"(a) keep-alive small GETs, saturated (wrk, 64 connections)", "keep", "max", []column{{"req/s", "rps", 1, 0, 1}, {"CPU µs/req", "CPUus", 1, 1, -1}, {"user", "UserUs", 1, 1, 0}, {"sys", "SysUs", 1, 1, 0}}},
	{"(a) keep-alive small GETs at 5,000/s, open loop", "keep", "rate5000", []column{{"CPU µs/req", "CPUus", 1, 1, -1}, {"p50 µs", "lat.P50", 1, 0, 0}, {"p99 µs", "lat.P99", 1, 0, -1}, {"p99.9 µs", "lat.P999", 1, 0, -1}, {"failed", "failed", 1, 0, 0}, {"RSS MiB", "RSSMiB", 1, 1, 0}}},
	{"(a) keep-alive small GETs at 15,000/s, open loop", "keep", "rate15000", []column{{"CPU µs/req", "CPUus", 1, 1, -1}, {"p50 µs", "lat.P50", 1, 0, 0}, {"p99 µs", "lat.P99", 1, 0, -1}, {"p99.9 µs", "lat.P999", 1, 0, -1}, {"failed", "failed", 1, 0, 0}, {"achieved/s", "achieved", 1, 0, 0}}},
	{"(b) 1 GiB download", "bulk", "down", []column{{"GB/s", "gb_s", 1, 2, 1}, {"CPU s/GiB", "CPUsPerGiB", 1, 3, -1}, {"RSS MiB", "RSSPeakMiB", 1, 1, 0}}},
	{"(b) 1 GiB upload", "bulk", "up", []column{{"GB/s", "gb_s", 1, 2, 1}, {"CPU s/GiB", "CPUsPerGiB", 1, 3, -1}, {"RSS MiB", "RSSPeakMiB", 1, 1, 0}}},
	{"(c) one request per connection", "conn", "conn", []column{{"conn/s", "per_sec", 1, 0, 1}, {"CPU µs/conn", "CPUus", 1, 1, -1}, {"failed", "failed", 1, 0, 0}}},
	{"(d) 9,000 idle keep-alive connections", "hold", "idle", []column{{"KiB/conn", "PerConnKiB", 1, 2, -1}, {"RSS MiB", "RSS1", 1, 1, 0}, {"held", "held", 1, 0, 0}, {"CPU ms/s", "IdleCPUms", 1, 1, 0}}},
	{"(d) 9,000 idle websockets", "hold", "ws", []column{{"KiB/conn", "PerConnKiB", 1, 2, -1}, {"RSS MiB", "RSS1", 1, 1, 0}, {"held", "held", 1, 0, 0}, {"CPU ms/s", "IdleCPUms", 1, 1, 0}}},
	{"(d) 9,000 stalled uploads", "hold", "upload", []column{{"KiB/conn", "PerConnKiB", 1, 2, -1}, {"RSS MiB", "RSS1", 1, 1, 0}, {"held", "held", 1, 0, 0}, {"CPU ms/s", "IdleCPUms", 1, 1, 0}}},
	{"(e) swaps at 5,000 req/s", "swap", "swap", []column{{"failed", "failed", 1, 0, 0}, {"wrong after ack", "swap_summary.WrongTotal", 1, 0, 0}, {"ack ms (median)", "swap_summary.AckMsMed", 1, 2, -1}, {"ack ms (worst)", "swap_summary.AckMsMax", 1, 1, 0}, {"last old ms (median)", "swap_summary.LastOldMsMed", 1, 2, -1}, {"last old ms (worst)", "swap_summary.LastOldMsMax", 1, 1, 0}, {"p99 near µs", "swap_summary.P99NearUs", 1, 0, -1}, {"p99 steady µs", "swap_summary.P99SteadyUs", 1, 0, 0}, {"worst near µs", "swap_summary.MaxNearUs", 1, 0, 0}, {"swap errors", "swap_summary.Errs", 1, 0, 0}, {"CPU µs/req", "CPUus", 1, 1, -1}, {"RSS MiB", "RSSMiB", 1, 1, 0}}},
	{"(f) TLS 1.3 full handshakes, ECDSA P-256, one request each", "tls", "handshake", []column{{"per s", "per_sec", 1, 0, 1}, {"CPU µs each", "CPUus", 1, 0, -1}, {"failed", "failed", 1, 0, 0}}},
	{"(f) TLS resumed handshakes", "tls", "resume", []column{{"per s", "per_sec", 1, 0, 1}, {"CPU µs each", "CPUus", 1, 0, -1}, {"failed", "failed", 1, 0, 0}}},
	{"(f) TLS keep-alive small GETs, saturated", "tls", "max", []column{{"req/s", "rps", 1, 0, 1}, {"CPU µs/req", "CPUus", 1, 1, -1}}},
	{"(h) small GETs of a session, saturated", "features", "max", []column{{"CPU µs/req", "CPUus", 1, 1, -1}, {"user", "UserUs", 1, 1, 0}, {"sys", "SysUs", 1, 1, 0}, {"req/s", "rps", 1, 0, 1}}},
	{"(h) small GETs of a session at 5,000/s, open loop", "features", "rate5000", []column{{"CPU µs/req", "CPUus", 1, 1, -1}, {"p50 µs", "lat.P50", 1, 0, 0}, {"p99 µs", "lat.P99", 1, 0, -1}, {"failed", "failed", 1, 0, 0}}},
	{"(h) small GETs of a session at 15,000/s, open loop", "features", "rate15000", []column{{"CPU µs/req", "CPUus", 1, 1, -1}, {"p50 µs", "lat.P50", 1, 0, 0}, {"p99 µs", "lat.P99", 1, 0, -1}, {"failed", "failed", 1, 0, 0}}},
	{"(g) 1 site", "sites", "1", siteCols}, {"(g) 1,000 sites", "sites", "1000", siteCols}, {"(g) 10,000 sites", "sites", "10000", siteCols},
}

var siteCols = []column{{"RSS idle MiB", "RSSIdleMiB", 1, 1, -1}, {"start ms", "StartMs", 1, 0, -1}, {"CPU µs/req", "CPUus", 1, 1, -1}, {"p50 µs", "lat.P50", 1, 0, 0}, {"p99 µs", "lat.P99", 1, 0, -1}, {"failed", "failed", 1, 0, 0}}

func get(raw map[string]any, path string) (float64, bool) {
	var cur any = raw
	for k := range strings.SplitSeq(path, ".") {
		m, ok := cur.(map[string]any)
		if !ok {
			return 0, false
		}
		cur = m[k]
	}
	f, ok := cur.(float64)
	return f, ok
}

func med(v []float64) float64 {
	s := slices.Clone(v)
	sort.Float64s(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// results are the lines of a results file.
type results struct {
	data            map[key][]obs
	order, settings []string // peers and settings in the order in which they came
}

type key struct{ suite, test, setting, peer string }

type obs struct {
	round int
	raw   map[string]any
}

func readResults(r io.Reader) (*results, error) {
	res := &results{data: map[key][]obs{}}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 1<<20), 64<<20)
	for n := 1; sc.Scan(); n++ {
		var l line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		var m map[string]any
		if err := json.Unmarshal(l.Raw, &m); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		k := key{l.Suite, l.Test, l.Setting, l.Peer}
		res.data[k] = append(res.data[k], obs{l.Round, m})
		if !slices.Contains(res.order, l.Peer) {
			res.order = append(res.order, l.Peer)
		}
		if !slices.Contains(res.settings, l.Setting) {
			res.settings = append(res.settings, l.Setting)
		}
	}
	return res, sc.Err()
}

func reportFile(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	res, err := readResults(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	res.report(w)
	return nil
}

// reference is what a peer is held against.
type reference struct {
	head  string
	peers []string
}

// references are what a peer is held against: the better of two, which is the yardstick, and each by itself.
var references = []reference{
	{"better of nginx, HAProxy", []string{"nginx", "haproxy", "haproxy-splice"}},
	{"nginx", []string{"nginx"}}, {"haproxy", []string{"haproxy"}}, {"httputil", []string{"httputil"}}, {"fasthttp", []string{"fasthttp"}},
}

// report writes a Markdown table for each measurement that was made.
func (r *results) report(w io.Writer) {
	for _, t := range tables {
		for _, set := range r.settings {
			if slices.ContainsFunc(r.order, func(p string) bool { return len(r.data[key{t.suite, t.test, set, p}]) > 0 }) {
				r.table(w, t, set)
			}
		}
	}
	fmt.Fprintln(w, "\n### long exchanges across one swap, and errors")
	for _, k := range slices.SortedFunc(maps.Keys(r.data), func(a, b key) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }) {
		for _, o := range r.data[k] {
			switch k.test {
			case "long":
				fmt.Fprintf(w, "\n- %s: ack %.0f ms, right after: %v, swap error %v; %v\n", k.peer, o.raw["ack_ms"], o.raw["version_right_after_ack"], o.raw["swap_err"], o.raw["results"])
			case "error":
				fmt.Fprintf(w, "\n- ERROR %s %s %s: %v\n", k.suite, k.setting, k.peer, o.raw["err"])
			}
		}
	}
}

// mainColumn is the column whose ratios are told: the first of these that the table has and that can be compared; -1: none.
func (t table) mainColumn() int {
	for _, head := range []string{"ack ms (median)", "KiB/conn", "CPU"} {
		if i := slices.IndexFunc(t.cols, func(c column) bool { return c.ratio != 0 && strings.HasPrefix(c.head, head) }); i >= 0 {
			return i
		}
	}
	return -1
}

func (r *results) table(w io.Writer, t table, set string) {
	first := t.mainColumn()
	references := references
	if t.suite == "features" {
		references = []reference{{"ours", []string{"ours"}}}
	}
	fmt.Fprintf(w, "\n### %s, %s\n\n| peer | n |", t.title, set)
	dashes := 2 + len(t.cols)
	for _, c := range t.cols {
		fmt.Fprintf(w, " %s |", c.head)
	}
	if first >= 0 {
		dashes += len(references)
		for _, ref := range references {
			fmt.Fprintf(w, " %s ÷ %s |", strings.Fields(t.cols[first].head)[0], ref.head)
		}
	}
	fmt.Fprintf(w, "\n|%s\n", strings.Repeat("---|", dashes))
	for _, p := range r.order {
		all := r.data[key{t.suite, t.test, set, p}]
		if len(all) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s | %d |", p, len(all))
		for _, c := range t.cols {
			fmt.Fprintf(w, " %s |", c.cell(all))
		}
		if first >= 0 {
			for _, ref := range references {
				fmt.Fprintf(w, " %s |", r.ratio(t, set, p, t.cols[first].path, ref.peers))
			}
		}
		fmt.Fprintln(w)
	}
}

// cell is the median over the rounds, with the least and the most.
func (c column) cell(all []obs) string {
	var v []float64
	for _, o := range all {
		if x, ok := get(o.raw, c.path); ok {
			v = append(v, x*c.scale)
		}
	}
	if len(v) == 0 {
		return "–"
	}
	lo, hi := slices.Min(v), slices.Max(v)
	if lo == hi {
		return fmt.Sprintf("%.*f", c.prec, med(v))
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", c.prec, med(v), c.prec, lo, c.prec, hi)
}

// ratio is the median over the rounds of the ratio, within one round, of the peer's figure to the least of those it is held against.
func (r *results) ratio(t table, set, peer, path string, against []string) string {
	if len(against) == 1 && against[0] == peer {
		return "–"
	}
	var v []float64
	for _, o := range r.data[key{t.suite, t.test, set, peer}] {
		x, ok := get(o.raw, path)
		least := 0.0
		for _, a := range against {
			for _, q := range r.data[key{t.suite, t.test, set, a}] {
				if y, ok := get(q.raw, path); ok && q.round == o.round && y > 0 && (least == 0 || y < least) {
					least = y
				}
			}
		}
		if ok && least > 0 {
			v = append(v, x/least)
		}
	}
	if len(v) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", med(v))
}
