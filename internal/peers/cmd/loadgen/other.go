//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/peers/internal/ep"
	"github.com/abswap/abswap/internal/peers/internal/proc"
)

type closedResult struct {
	N      int64   `json:"n"`
	Failed int64   `json:"failed"`
	PerSec float64 `json:"per_sec"`
	CPUus  float64 // of the proxy, per connection
	FirstE string  `json:"first_err,omitempty"`
}

// newConns makes connections one after another in each of c lanes of one
// event loop: connect, one request with Connection: close, the whole answer.
func newConns(args []string) any {
	fs := flag.NewFlagSet("conn", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8080", "the proxy")
	dur := fs.Duration("d", 4*time.Second, "how long")
	nc := fs.Int("c", 32, "lanes")
	pid := fs.Int("pid", 0, "whose CPU time to count")
	fs.Parse(args)
	req := []byte("GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")
	ep.Pin()
	epfd, _ := syscall.EpollCreate1(0)
	conns := make([]*rconn, 1<<16)
	evs := make([]ep.Event, 256)
	tmp := make([]byte, 64<<10)
	res := closedResult{}
	dial := func() {
		fd, err := ep.Dial(*addr)
		if err != nil {
			res.Failed++
			return
		}
		conns[fd] = &rconn{fd: fd}
		ep.Add(epfd, fd, syscall.EPOLLOUT)
	}
	for i := 0; i < *nc; i++ {
		dial()
	}
	var u0, s0 float64
	if *pid > 0 {
		u0, s0 = proc.CPU(*pid)
	}
	start := time.Now()
	for time.Since(start) < *dur {
		n := ep.Wait(epfd, evs, 10*time.Millisecond)
		for i := range n {
			c := conns[evs[i].Fd]
			if c == nil {
				continue
			}
			if c.state == 0 {
				if w, e := ep.Write(c.fd, req); e != 0 || w != len(req) {
					res.Failed++
					syscall.Close(c.fd)
					conns[c.fd] = nil
					dial()
					continue
				}
				c.state = 2
				ep.Mod(epfd, c.fd, syscall.EPOLLIN)
				continue
			}
			rn, e := ep.Read(c.fd, tmp)
			if e == syscall.EAGAIN {
				continue
			}
			if e == 0 && rn > 0 {
				c.need += rn
				if tmp[rn-1] == '\n' && c.need > 150 { // the whole small answer
					c.last = true
				}
				continue
			}
			if e != 0 || !c.last {
				res.Failed++
			} else {
				res.N++
			}
			syscall.Close(c.fd)
			conns[c.fd] = nil
			dial()
		}
	}
	el := time.Since(start).Seconds()
	if *pid > 0 {
		u1, s1 := proc.CPU(*pid)
		res.CPUus = (u1 - u0 + s1 - s0) / float64(max(1, res.N)) * 1e6
	}
	res.PerSec = float64(res.N) / el
	return res
}

func tlsConns(args []string) any {
	fs := flag.NewFlagSet("tls", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8443", "the proxy")
	dur := fs.Duration("d", 4*time.Second, "how long")
	nc := fs.Int("c", 8, "lanes")
	pid := fs.Int("pid", 0, "whose CPU time to count")
	resume := fs.Bool("resume", false, "allow session resumption")
	host := fs.String("host", "bench.test", "server name")
	fs.Parse(args)
	var n, failed atomic.Int64
	var first atomic.Value
	var u0, s0 float64
	if *pid > 0 {
		u0, s0 = proc.CPU(*pid)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := 0; i < *nc; i++ {
		wg.Go(func() {
			// X25519 alone, as nginx and HAProxy with OpenSSL 3.0 have no
			// hybrid post-quantum group and Go's servers do.
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: *host, NextProtos: []string{"http/1.1"},
				CurvePreferences: []tls.CurveID{tls.X25519}}
			if *resume {
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			}
			buf := make([]byte, 64<<10)
			for time.Since(start) < *dur {
				c, err := tls.Dial("tcp", *addr, cfg)
				if err == nil {
					_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+*host+"\r\nConnection: close\r\n\r\n")
				}
				if err == nil {
					got := 0
					for err == nil && got < len(buf) {
						var k int
						k, err = c.Read(buf[got:])
						got += k
					}
					if strings.HasPrefix(string(buf[:got]), "HTTP/1.1 200") {
						if err == io.EOF {
							err = nil
						}
					} else if err == nil || err == io.EOF {
						err = fmt.Errorf("%.60q", buf[:got])
					}
				}
				if err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err.Error())
				} else {
					n.Add(1)
				}
				if c != nil {
					c.NetConn().Close()
				}
			}
		})
	}
	wg.Wait()
	res := closedResult{N: n.Load(), Failed: failed.Load()}
	res.PerSec = float64(res.N) / time.Since(start).Seconds()
	if *pid > 0 {
		u1, s1 := proc.CPU(*pid)
		res.CPUus = (u1 - u0 + s1 - s0) / float64(max(1, res.N)) * 1e6
	}
	if v := first.Load(); v != nil {
		res.FirstE = v.(string)
	}
	return res
}

type bulkResult struct {
	Bytes             int64   `json:"bytes"`
	GBs               float64 `json:"gb_s"`
	CPUsPerGiB        float64 // of the proxy
	UserPerG, SysPerG float64
	Err               string `json:"err,omitempty"`
	RSSPeakMiB        float64
}

func bulk(args []string) any {
	fs := flag.NewFlagSet("bulk", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8080", "the proxy")
	dir := fs.String("dir", "down", "down or up")
	n := fs.Int64("n", 1<<30, "bytes")
	pid := fs.Int("pid", 0, "whose CPU time to count")
	fs.Parse(args)
	res := bulkResult{Bytes: *n}
	c, err := net.Dial("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	var u0, s0 float64
	if *pid > 0 {
		u0, s0 = proc.CPU(*pid)
	}
	start := time.Now()
	if *dir == "down" {
		err = download(c, *n)
	} else {
		err = upload(c, *n)
	}
	el := time.Since(start).Seconds()
	if err != nil {
		res.Err = err.Error()
	}
	res.GBs = float64(*n) / 1e9 / el
	if *pid > 0 {
		u1, s1 := proc.CPU(*pid)
		g := float64(*n) / (1 << 30)
		res.UserPerG, res.SysPerG = (u1-u0)/g, (s1-s0)/g
		res.CPUsPerGiB = res.UserPerG + res.SysPerG
		res.RSSPeakMiB = float64(proc.RSS(*pid)) / (1 << 20)
	}
	return res
}

func download(c net.Conn, n int64) error {
	fmt.Fprintf(c, "GET /bytes/%d HTTP/1.1\r\nHost: bench.test\r\n\r\n", n)
	buf := make([]byte, 16<<10)
	got, end := 0, -1
	for end < 0 {
		k, err := c.Read(buf[got:])
		if err != nil {
			return err
		}
		got += k
		end = ep.IndexHeaderEnd(buf[:got], 0)
	}
	if !strings.HasPrefix(string(buf[:end]), "HTTP/1.1 200") {
		return fmt.Errorf("%s", strings.SplitN(string(buf[:end]), "\r\n", 2)[0])
	}
	if ep.Header(buf[:end], "content-length:") == nil { // chunked: count through net/http's reader instead
		r := &prefixed{buf[:got], c}
		res, err := http.ReadResponse(bufio.NewReaderSize(r, 256<<10), nil)
		if err != nil {
			return err
		}
		m, err := io.Copy(io.Discard, res.Body)
		if err == nil && m != n {
			err = fmt.Errorf("short: %d of %d", m, n)
		}
		return err
	}
	left := n - int64(got-end)
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = rc.Read(func(fd uintptr) bool {
		for left > 0 {
			k, e := ep.Discard(int(fd), int(min(left, 4<<20)))
			if e == syscall.EAGAIN {
				return false
			}
			if e != 0 || k <= 0 {
				ferr = fmt.Errorf("short by %d (%v)", left, e)
				return true
			}
			left -= int64(k)
		}
		return true
	})
	if ferr != nil {
		return ferr
	}
	return err
}

type prefixed struct {
	b []byte
	r io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.b) > 0 {
		n := copy(b, p.b)
		p.b = p.b[n:]
		return n, nil
	}
	return p.r.Read(b)
}

func upload(c net.Conn, n int64) error {
	fmt.Fprintf(c, "PUT /up1 HTTP/1.1\r\nHost: bench.test\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", n)
	buf := make([]byte, 256<<10)
	for left := n; left > 0; {
		k, err := c.Write(buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		left -= int64(k)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var v string
	var got int64
	fmt.Sscanf(string(b), "%s %d", &v, &got)
	if res.StatusCode != 200 || got != n {
		return fmt.Errorf("%s: %q", res.Status, b)
	}
	return nil
}

type holdResult struct {
	Held       int     `json:"held"`
	Failed     int     `json:"failed"`
	RSS0, RSS1 float64 // MiB
	PerConnKiB float64
	KernelKiB  float64 // TCP buffer memory per connection, whole machine
	IdleCPUms  float64 // proxy CPU milliseconds per second while all are held
	FirstErr   string  `json:"first_err,omitempty"`
}

const wsReq = "GET /ws HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func hold(args []string) any {
	fs := flag.NewFlagSet("hold", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8080", "the proxy")
	n := fs.Int("n", 9000, "connections")
	kind := fs.String("kind", "ws", "ws, upload or idle")
	pid := fs.Int("pid", 0, "whose memory to count")
	settle := fs.Duration("settle", 3*time.Second, "wait before the memory is read")
	fs.Parse(args)
	res := holdResult{}
	res.RSS0 = float64(proc.RSS(*pid)) / (1 << 20)
	k0 := proc.SockMem()
	var mu sync.Mutex
	var wg sync.WaitGroup
	conns := make([]net.Conn, *n)
	lanes := 32
	for l := range lanes {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for i := l; i < *n; i += lanes {
				c, err := net.Dial("tcp", *addr)
				if err == nil {
					c.SetDeadline(time.Now().Add(10 * time.Second))
					switch *kind {
					case "ws":
						io.WriteString(c, wsReq)
						var k int
						if k, err = c.Read(buf); err == nil && !strings.HasPrefix(string(buf[:k]), "HTTP/1.1 101") {
							err = fmt.Errorf("%q", buf[:k])
						}
					case "upload":
						_, err = io.WriteString(c, "PUT /u HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 1000000000\r\n\r\n"+strings.Repeat("x", 2000))
					case "idle":
						io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n")
						_, err = c.Read(buf)
					}
				}
				if err != nil {
					mu.Lock()
					res.Failed++
					if res.FirstErr == "" {
						res.FirstErr = err.Error()
					}
					mu.Unlock()
					if c != nil {
						c.Close()
					}
					continue
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	time.Sleep(*settle)
	for _, c := range conns {
		if c != nil {
			res.Held++
		}
	}
	u0, s0 := proc.CPU(*pid)
	res.RSS1 = float64(proc.RSS(*pid)) / (1 << 20)
	t := time.Now()
	time.Sleep(2 * time.Second)
	u1, s1 := proc.CPU(*pid)
	res.IdleCPUms = (u1 - u0 + s1 - s0) * 1e3 / time.Since(t).Seconds()
	if res.Held > 0 {
		res.PerConnKiB = (res.RSS1 - res.RSS0) * 1024 / float64(res.Held)
		res.KernelKiB = float64(proc.SockMem()-k0) / 1024 / float64(res.Held)
	}
	return res
}

type longResult struct {
	AckMs   float64           `json:"ack_ms"`
	SwapErr string            `json:"swap_err,omitempty"`
	Results map[string]string `json:"results"`
	NewVer  string            `json:"version_right_after_ack"`
}

// get asks for the site that is swapped, whatever the address.
func get(url string) (*http.Response, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Host = "bench.test"
	return http.DefaultClient.Do(req)
}

// long holds slow exchanges open across one swap, made after 2 seconds.
func long(args []string) any {
	fs := flag.NewFlagSet("long", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:8080", "the proxy")
	swap := fs.String("swap", "", "how to swap")
	secs := fs.Int("secs", 20, "how long each exchange takes")
	fs.Parse(args)
	sw := newSwapper(*swap)
	res := longResult{Results: map[string]string{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	run := func(name string, f func() (string, error)) {
		wg.Go(func() {
			s, err := f()
			if err != nil {
				s = fmt.Sprintf("FAILED at %.1fs: %v", time.Since(start).Seconds(), err)
			} else {
				s = fmt.Sprintf("ok at %.1fs: %s", time.Since(start).Seconds(), s)
			}
			mu.Lock()
			res.Results[name] = s
			mu.Unlock()
		})
	}
	steps := *secs * 10
	up := func(chunked bool) func() (string, error) {
		return func() (string, error) {
			c, err := net.Dial("tcp", *addr)
			if err != nil {
				return "", err
			}
			defer c.Close()
			piece := strings.Repeat("u", 8192)
			if chunked {
				fmt.Fprintf(c, "POST /long HTTP/1.1\r\nHost: bench.test\r\nTransfer-Encoding: chunked\r\n\r\n")
			} else {
				fmt.Fprintf(c, "POST /long HTTP/1.1\r\nHost: bench.test\r\nContent-Length: %d\r\n\r\n", steps*len(piece))
			}
			for range steps {
				if chunked {
					_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", len(piece), piece)
				} else {
					_, err = io.WriteString(c, piece)
				}
				if err != nil {
					return "", err
				}
				time.Sleep(100 * time.Millisecond)
			}
			if chunked {
				io.WriteString(c, "0\r\n\r\n")
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return "", err
			}
			b, err := io.ReadAll(r.Body)
			if err == nil && (r.StatusCode != 200 || !strings.Contains(string(b), fmt.Sprint(steps*len(piece)))) {
				err = fmt.Errorf("%s %q", r.Status, b)
			}
			return strings.TrimSpace(string(b)), err
		}
	}
	run("upload", up(false))
	run("upload_chunked", up(true))
	run("download", func() (string, error) {
		r, err := get(fmt.Sprintf("http://%s/drip/%d", *addr, *secs*1000))
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(r.Body)
		if err == nil && len(b) != 128 {
			err = fmt.Errorf("short: %d", len(b))
		}
		return r.Header.Get("X-Version"), err
	})
	run("websocket", func() (string, error) {
		c, err := net.Dial("tcp", *addr)
		if err != nil {
			return "", err
		}
		defer c.Close()
		buf := make([]byte, 4096)
		io.WriteString(c, wsReq)
		k, err := c.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:k]), "HTTP/1.1 101") {
			return "", fmt.Errorf("%q %v", buf[:k], err)
		}
		v := string(ep.Header(buf[:k], "x-version:"))
		for i := 0; i < *secs*2; i++ {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.WriteString(c, "ping"); err != nil {
				return "", err
			}
			if _, err := io.ReadFull(c, buf[:4]); err != nil {
				return "", err
			}
			time.Sleep(500 * time.Millisecond)
		}
		return v, nil
	})
	time.Sleep(2 * time.Second)
	t := time.Now()
	if err := sw("B"); err != nil {
		res.SwapErr = err.Error()
	}
	res.AckMs = float64(time.Since(t)) / 1e6
	if r, err := get("http://" + *addr + "/"); err == nil {
		res.NewVer = r.Header.Get("X-Version")
		r.Body.Close()
	} else {
		res.NewVer = err.Error()
	}
	wg.Wait()
	return res
}
