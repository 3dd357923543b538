// Package proc reads what a process tree costs from /proc.
package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const tick = 0.01 // seconds; USER_HZ is 100 on every Linux

type stat struct {
	ppid           int
	utime, stime   float64
	cutime, cstime float64
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	n := func(i int) float64 { v, _ := strconv.ParseFloat(f[i], 64); return v * tick }
	pp, _ := strconv.Atoi(f[1])
	return stat{pp, n(11), n(12), n(13), n(14)}, true
}

// Tree lists root and all its live descendants.
func Tree(root int) []int {
	kids := map[int][]int{}
	ds, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range ds {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if st, ok := readStat(pid); ok {
			kids[st.ppid] = append(kids[st.ppid], pid)
		}
	}
	out := []int{root}
	for i := 0; i < len(out); i++ {
		out = append(out, kids[out[i]]...)
	}
	return out
}

// CPU is the user and system seconds of the tree, its dead children's
// included. The sum comes from the scheduler's nanosecond counters; only the
// split between user and system is sampled by the kernel.
func CPU(root int) (user, sys float64) {
	for _, p := range Tree(root) {
		st, ok := readStat(p)
		if !ok {
			continue
		}
		user += st.cutime
		sys += st.cstime
		exact := 0.0
		ts, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p))
		for _, t := range ts {
			b, err := os.ReadFile(t)
			if err == nil {
				ns, _ := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
				exact += ns / 1e9
			}
		}
		u, s := st.utime, st.stime
		if exact > 0 {
			if u+s > 0 {
				u, s = exact*u/(u+s), exact*s/(u+s)
			} else {
				s = exact
			}
		}
		user += u
		sys += s
	}
	return
}

// RSS is the tree's resident memory in bytes, by proportional set size where
// the kernel gives it (shared pages counted once).
func RSS(root int) int64 {
	var sum int64
	for _, p := range Tree(root) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		key := "Pss:"
		if err != nil {
			b, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
			key = "VmRSS:"
		}
		if err != nil {
			continue
		}
		for l := range strings.SplitSeq(string(b), "\n") {
			if strings.HasPrefix(l, key) {
				f := strings.Fields(l)
				v, _ := strconv.ParseInt(f[1], 10, 64)
				sum += v * 1024
				break
			}
		}
	}
	return sum
}

// SockMem is the kernel's TCP memory on the whole machine in bytes.
func SockMem() int64 {
	b, _ := os.ReadFile("/proc/net/sockstat")
	for l := range strings.SplitSeq(string(b), "\n") {
		if strings.HasPrefix(l, "TCP:") {
			f := strings.Fields(l)
			for i := range f {
				if f[i] == "mem" {
					v, _ := strconv.ParseInt(f[i+1], 10, 64)
					return v * 4096
				}
			}
		}
	}
	return 0
}
