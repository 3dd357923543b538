//go:build linux

package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/peers/internal/ep"
	"github.com/abswap/abswap/internal/peers/internal/proc"
)

// what happened to one request; times are nanoseconds since the run's start.
type record struct {
	sent, done int64
	ver        byte
	err        uint8
}

const (
	ok         = iota
	errNever   // not answered by the run's end
	errConnect // no connection to be had
	errReset   // connection closed or reset after the request was sent, before any answer
	errShort   // closed in the middle of an answer
	errStatus  // any status but 200
	errBody    // wrong length or a body of another version than its header
	nErr
)

var errNames = [nErr]string{"ok", "never", "connect", "reset", "short", "status", "body"}

type rconn struct {
	fd    int
	state int // 0 connecting, 1 idle, 2 busy
	req   int
	buf   []byte
	need  int
	last  bool // the answer said Connection: close
}

type swapLog struct {
	To       string  `json:"to"`
	Cmd, Ack int64   `json:"-"`
	AckMs    float64 `json:"ack_ms"`
	Err      string  `json:"err,omitempty"`
	Wrong    int     `json:"wrong_after_ack"`
	LastOld  float64 `json:"last_old_ms"`  // command to the last request start served by the old version
	FirstNew float64 `json:"first_new_ms"` // command to the first request start served by the new version
	P99us    float64 `json:"p99_us"`
	MaxUs    float64 `json:"max_us"`
}

type latency struct {
	P50, P90, P99, P999, Max float64 // microseconds
}

type rateResult struct {
	Rate     float64        `json:"rate"`
	Achieved float64        `json:"achieved"`
	N        int            `json:"n"`
	Failed   int            `json:"failed"`
	Errors   map[string]int `json:"errors"`
	Lat      latency        `json:"lat"`
	// of the tree under -pid
	CPUus, UserUs, SysUs float64
	SelfUs               float64 // the load generator's own CPU per request
	RSSMiB               float64
	ByVersion            map[string]int `json:"by_version"`
	IdleCloses           int            `json:"idle_closes"`
	Swaps                []swapLog      `json:"swaps,omitempty"`
	SwapSum              *swapSummary   `json:"swap_summary,omitempty"`
}

type swapSummary struct {
	N, Errs      int
	WrongTotal   int
	AckMsMed     float64
	AckMsMax     float64
	LastOldMsMed float64
	LastOldMsMax float64
	P99NearUs    float64 // requests intended within the window after a swap command
	P99SteadyUs  float64
	MaxNearUs    float64
	FailedNear   int
	FirstErr     string
}

func rate(args []string) any {
	fs := flag.NewFlagSet("rate", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8080", "the proxy")
	r := fs.Float64("rate", 5000, "requests a second")
	dur := fs.Duration("d", 5*time.Second, "how long")
	warm := fs.Duration("warm", time.Second, "left out of the figures, at the start")
	nc := fs.Int("c", 64, "connections")
	path := fs.String("path", "/", "path")
	hosts := fs.Int("hosts", 0, "if set, the Host is site<0..n-1>.test at random")
	cookie := fs.String("cookie", "", "if set, the Cookie field of all requests")
	pid := fs.Int("pid", 0, "whose CPU time to count")
	swap := fs.String("swap", "", "how to swap (see swap.go)")
	nswaps := fs.Int("swaps", 50, "how many swaps")
	every := fs.Duration("every", 500*time.Millisecond, "time between swap commands")
	window := fs.Duration("window", 200*time.Millisecond, "what counts as near a swap")
	reqEach := fs.Int("per-conn", 0, "if set, close a connection after so many requests")
	tick := fs.Duration("tick", 200*time.Microsecond, "starts are lined up on this grid, so that high rates cost the generator fewer wake-ups")
	keep := fs.String("record", "", "a file for a trace of all requests (cmd/plot draws it)")
	name := fs.String("name", "", "the name in that trace")
	fs.Parse(args)

	if *swap != "" {
		*dur = *warm + time.Duration(*nswaps)**every + 500*time.Millisecond
	}
	total := int(*r * dur.Seconds())
	grid := int64(max(1, *tick))
	due := func(i int) int64 { return int64(float64(i)*1e9 / *r) / grid * grid } // request i's intended start
	recs := make([]record, total)
	warmN := int(*r * warm.Seconds())
	nreq := max(1, *hosts)
	reqs := make([][]byte, nreq)
	more := ""
	if *cookie != "" {
		more = "Cookie: " + *cookie + "\r\n"
	}
	for i := range reqs {
		h := "bench.test"
		if *hosts > 0 {
			h = fmt.Sprintf("site%d.test", i)
		}
		reqs[i] = []byte("GET " + *path + " HTTP/1.1\r\nHost: " + h + "\r\nUser-Agent: loadgen/1\r\nAccept: */*\r\n" + more + "\r\n")
	}
	rng := rand.New(rand.NewSource(1))

	debug.SetGCPercent(-1) // everything it needs is allocated up front
	ep.Raw = true
	ep.Pin()
	epfd, _ := syscall.EpollCreate1(0)
	conns := make([]*rconn, 1<<16)
	var idle []*rconn
	open, idleCloses, doneN := 0, 0, 0
	var connectFails int
	start := time.Now()
	now := func() int64 { return int64(time.Since(start)) }
	dial := func() {
		fd, err := ep.Dial(*addr)
		if err != nil {
			connectFails++
			return
		}
		c := &rconn{fd: fd, req: -1, buf: make([]byte, 0, 2048)}
		conns[fd] = c
		open++
		ep.Add(epfd, fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
	drop := func(c *rconn) {
		syscall.Close(c.fd)
		conns[c.fd] = nil
		open--
		if c.state == 1 {
			if i := slices.Index(idle, c); i >= 0 {
				idle = slices.Delete(idle, i, i+1)
			}
		}
	}
	finish := func(c *rconn, e uint8) {
		rc := &recs[c.req]
		rc.done, rc.err = now(), e
		c.req = -1
		doneN++
	}
	served := map[int]int{}
	var evs = make([]ep.Event, 512)
	tmp := make([]byte, 64<<10)
	next := 0 // next request to be sent
	handle := func(n int) {
		for i := range n {
			c := conns[evs[i].Fd]
			if c == nil {
				continue
			}
			if c.state == 0 {
				if e, _ := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR); e != 0 {
					connectFails++
					drop(c)
					continue
				}
				c.state = 1
				idle = append(idle, c)
				ep.Mod(epfd, c.fd, syscall.EPOLLIN)
				continue
			}
			rn, e := ep.Read(c.fd, tmp)
			if e == syscall.EAGAIN {
				continue
			}
			if e != 0 || rn <= 0 {
				if c.state == 2 {
					if len(c.buf) > 0 {
						finish(c, errShort)
					} else {
						finish(c, errReset)
					}
				} else {
					idleCloses++
				}
				drop(c)
				continue
			}
			if c.state == 1 { // unasked bytes: a 408 before the close, say
				idleCloses++
				drop(c)
				continue
			}
			c.buf = append(c.buf, tmp[:rn]...)
			if c.need == 0 {
				end := ep.IndexHeaderEnd(c.buf, 0)
				if end < 0 {
					continue
				}
				h := c.buf[:end]
				if v := ep.Header(h, "connection:"); len(v) == 5 && v[0]|0x20 == 'c' {
					c.last = true
				}
				if st := ep.Atoi(h[9:12]); st != 200 {
					finish(c, errStatus)
					drop(c)
					continue
				}
				cl := ep.Header(h, "content-length:")
				if cl == nil { // chunked: only the small body is used here
					if !slices.Equal(c.buf[len(c.buf)-5:], []byte("0\r\n\r\n")) {
						continue
					}
					c.need = len(c.buf)
				} else {
					c.need = end + int(ep.Atoi(cl))
					if v := ep.Header(h, "x-version:"); len(v) > 0 {
						recs[c.req].ver = v[0]
					}
				}
			}
			if len(c.buf) < c.need {
				continue
			}
			e8 := uint8(ok)
			rc := &recs[c.req]
			if cl := ep.Header(c.buf, "content-length:"); cl != nil {
				b := c.buf[len(c.buf)-int(ep.Atoi(cl)):]
				if len(b) != 128 || b[0] != rc.ver || len(c.buf) != c.need || b[127] != '\n' {
					e8 = errBody
				}
			}
			finish(c, e8)
			c.buf, c.need = c.buf[:0], 0
			if *reqEach > 0 {
				served[c.fd]++
				if served[c.fd] >= *reqEach {
					served[c.fd] = 0
					c.last = true
				}
			}
			if c.last {
				drop(c)
				continue
			}
			c.state = 1
			idle = append(idle, c)
		}
	}
	send := func() {
		for next < total && due(next) <= now() && len(idle) > 0 {
			c := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			c.state, c.req = 2, next
			recs[next].sent = now()
			recs[next].err = errNever
			b := reqs[0]
			if *hosts > 0 {
				b = reqs[rng.Intn(nreq)]
			}
			next++
			if n, e := ep.Write(c.fd, b); e != 0 || n != len(b) {
				finish(c, errReset)
				drop(c)
			}
		}
	}
	// connect everything before the clock starts
	for i := 0; i < *nc; i++ {
		dial()
		if i%64 == 63 {
			handle(ep.Wait(epfd, evs, 5*time.Millisecond))
		}
	}
	for t := time.Now(); len(idle) < *nc && time.Since(t) < 3*time.Second; {
		handle(ep.Wait(epfd, evs, 20*time.Millisecond))
	}
	if len(idle) == 0 {
		log.Fatal("rate: no connection could be made")
	}
	connectFails = 0

	var mu sync.Mutex
	var swaps []swapLog
	start = time.Now()
	if *swap != "" {
		sw := newSwapper(*swap)
		go func() {
			time.Sleep(*warm)
			t := time.Now()
			for i := 0; i < *nswaps; i++ {
				time.Sleep(time.Until(t.Add(time.Duration(i) * *every)))
				v := "B"
				if i%2 == 1 {
					v = "A"
				}
				l := swapLog{To: v, Cmd: now()}
				if err := sw(v); err != nil {
					l.Err = err.Error()
				}
				l.Ack = now()
				l.AckMs = float64(l.Ack-l.Cmd) / 1e6
				mu.Lock()
				swaps = append(swaps, l)
				mu.Unlock()
			}
		}()
	}
	var u0, s0, su0, ss0 float64
	var t0 int64
	started := false
	redial := time.Now()
	for next < total {
		d := max(time.Duration(due(next)-now()), 0)
		if len(idle) == 0 && d == 0 {
			d = time.Millisecond
		}
		if n := ep.Wait(epfd, evs, d); n > 0 {
			handle(n)
		}
		if open < *nc {
			if connectFails == 0 || time.Since(redial) > time.Millisecond {
				redial = time.Now()
				connectFails = 0
				for open < *nc && connectFails == 0 {
					dial()
				}
			}
		}
		send()
		if !started && next >= warmN {
			started = true
			if *pid > 0 {
				u0, s0 = proc.CPU(*pid)
			}
			su0, ss0 = proc.CPU(syscall.Getpid())
			t0 = now()
		}
	}
	var u1, s1 float64
	if *pid > 0 {
		u1, s1 = proc.CPU(*pid)
	}
	su1, ss1 := proc.CPU(syscall.Getpid())
	t1 := now()
	for t := time.Now(); doneN < total && time.Since(t) < 2*time.Second; {
		handle(ep.Wait(epfd, evs, 10*time.Millisecond))
	}
	n := total - warmN
	res := rateResult{Rate: *r, N: n, Errors: map[string]int{}, ByVersion: map[string]int{}, IdleCloses: idleCloses}
	res.Achieved = float64(n) / (float64(t1-t0) / 1e9)
	res.UserUs, res.SysUs = (u1-u0)/float64(n)*1e6, (s1-s0)/float64(n)*1e6
	res.CPUus = res.UserUs + res.SysUs
	res.SelfUs = (su1 - su0 + ss1 - ss0) / float64(n) * 1e6
	if *pid > 0 {
		res.RSSMiB = float64(proc.RSS(*pid)) / (1 << 20)
	}
	lats := make([]float64, 0, n)
	for i := warmN; i < total; i++ {
		rc := &recs[i]
		if rc.err != ok {
			res.Failed++
			res.Errors[errNames[rc.err]]++
			continue
		}
		res.ByVersion[string(rc.ver)]++
		lats = append(lats, float64(rc.done-due(i))/1e3)
	}
	res.Lat = percentiles(lats)
	mu.Lock()
	if len(swaps) > 0 {
		judge(&res, recs, swaps, due, warmN, int64(*window))
	}
	if *keep != "" {
		if err := writeTrace(*keep, *name, recs[warmN:], swaps, func(i int) int64 { return due(i + warmN) }); err != nil {
			log.Fatal(err)
		}
	}
	return res
}

func percentiles(l []float64) latency {
	if len(l) == 0 {
		return latency{}
	}
	slices.Sort(l)
	q := func(p float64) float64 { return math.Round(l[int(p*float64(len(l)-1))]*10) / 10 }
	return latency{q(.5), q(.9), q(.99), q(.999), q(1)}
}

func judge(res *rateResult, recs []record, swaps []swapLog, due func(int) int64, from int, window int64) {
	var near, steady []float64
	sum := &swapSummary{N: len(swaps)}
	for k := range swaps {
		s := &swaps[k]
		end := int64(math.MaxInt64)
		if k+1 < len(swaps) {
			end = swaps[k+1].Cmd
		}
		want := s.To[0]
		firstNew := int64(-1)
		for i := range recs {
			rc := &recs[i]
			// A request that is still open at the next swap may rightly get
			// the version of that one, so it says nothing about this one.
			if rc.err != ok || rc.sent < s.Cmd || rc.done >= end {
				continue
			}
			if rc.ver == want {
				if firstNew < 0 || rc.sent < firstNew {
					firstNew = rc.sent
				}
				continue
			}
			s.LastOld = max(s.LastOld, float64(rc.sent-s.Cmd)/1e6)
			if rc.sent >= s.Ack {
				s.Wrong++
			}
		}
		if firstNew >= 0 {
			s.FirstNew = float64(firstNew-s.Cmd) / 1e6
		}
	}
	for i := from; i < len(recs); i++ {
		at := due(i)
		isNear := false
		k := 0
		for ; k < len(swaps); k++ {
			if at >= swaps[k].Cmd && at < swaps[k].Cmd+window {
				isNear = true
				break
			}
		}
		if recs[i].err != ok {
			if isNear {
				sum.FailedNear++
			}
			continue
		}
		l := float64(recs[i].done-at) / 1e3
		if isNear {
			near = append(near, l)
			swaps[k].MaxUs = max(swaps[k].MaxUs, l)
		} else {
			steady = append(steady, l)
		}
	}
	n, st := percentiles(near), percentiles(steady)
	sum.P99NearUs, sum.P99SteadyUs, sum.MaxNearUs = n.P99, st.P99, n.Max
	var acks, olds []float64
	for _, s := range swaps {
		acks, olds = append(acks, s.AckMs), append(olds, s.LastOld)
		sum.WrongTotal += s.Wrong
		if s.Err != "" {
			sum.Errs++
			if sum.FirstErr == "" {
				sum.FirstErr = s.Err
			}
		}
	}
	slices.Sort(acks)
	slices.Sort(olds)
	sum.AckMsMed, sum.AckMsMax = acks[len(acks)/2], acks[len(acks)-1]
	sum.LastOldMsMed, sum.LastOldMsMax = olds[len(olds)/2], olds[len(olds)-1]
	res.SwapSum = sum
	res.Swaps = swaps
}
