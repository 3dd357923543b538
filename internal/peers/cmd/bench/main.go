//go:build linux

// bench runs every peer through the chosen suites, in turn within each round,
// and appends one JSON line per measurement to the results file. With -report
// it prints the tables of a results file instead.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/peers/internal/proc"
)

type line struct {
	Round   int             `json:"round"`
	Suite   string          `json:"suite"`
	Setting string          `json:"setting"`
	Peer    string          `json:"peer"`
	Test    string          `json:"test"`
	Raw     json.RawMessage `json:"raw"`
}

var (
	binDir   = flag.String("bin", "bin", "folder of backend, loadgen, peer-httputil, peer-fasthttp")
	tmplDir  = flag.String("templates", "peers", "folder of the configuration templates")
	workDir  = flag.String("work", "", "scratch folder (default: a new temporary one)")
	out      = flag.String("out", "results.jsonl", "results are appended here")
	rounds   = flag.Int("rounds", 5, "rounds")
	first    = flag.Int("first", 1, "number of the first round, when appending to earlier ones")
	quiet    = flag.Bool("quiet", false, "no report at the end")
	suites   = flag.String("suites", "keep,conn,bulk,tls,hold,swap,long,sites", "which suites")
	settings = flag.String("settings", "shared,pinned", "shared: all on all cores; pinned: the proxy on core 0, load and backends on core 1")
	only     = flag.String("peers", "", "only these peers")
	report   = flag.String("report", "", "print the tables of this results file and stop")
	ours     = flag.String("ours", "", "our proxy's binary")
	oursName = flag.String("name", "ours", "its name in the tables")
	base     = flag.Int("port", 28000, "ports from here on are used")
	secs     = flag.Float64("secs", 3, "seconds of a throughput measurement")
	rates    = flag.String("rates", "5000,15000", "open-loop rates of the keep suite")
	nswaps   = flag.Int("swaps", 50, "swaps of a swap run")
	keep     = flag.String("record", "", "folder for one trace of each peer's first swap run (cmd/plot draws them)")
	lock     = flag.String("lock", "", "flock this file around each measurement")
)

func main() {
	log.SetFlags(log.Ltime)
	flag.Parse()
	if *report != "" {
		if err := reportFile(os.Stdout, *report); err != nil {
			log.Fatal(err)
		}
		return
	}
	var err error
	if *workDir == "" {
		if *workDir, err = os.MkdirTemp("", "peers"); err != nil {
			log.Fatal(err)
		}
	}
	*workDir, _ = filepath.Abs(*workDir)
	if *keep != "" {
		*keep, _ = filepath.Abs(*keep)
		os.MkdirAll(*keep, 0o755)
	}
	os.MkdirAll(*workDir, 0o755)
	*binDir, _ = filepath.Abs(*binDir)
	*tmplDir, _ = filepath.Abs(*tmplDir)
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	var list []*peer
	add := func(p *peer, bin string) {
		if bin == "" {
			return
		}
		if _, err := exec.LookPath(bin); err != nil {
			log.Printf("%s left out: %v", p.name, err)
			return
		}
		list = append(list, p)
	}
	if *ours != "" {
		*ours, _ = filepath.Abs(*ours)
		add(binary(*oursName, *ours), *ours)
		add(binary(*oursName+allOn, *ours, "-sessions", "-max-conns", "100000", "-max-in-flight", "100000"), *ours)
	}
	for extra := range strings.FieldsSeq(os.Getenv("PEER_EXTRA")) { // name=binary, the same interface as ours
		n, b, _ := strings.Cut(extra, "=")
		add(binary(n, b), b)
	}
	add(nginx("nginx", false), "nginx")
	add(nginx("nginx-flag", true), "nginx")
	add(haproxy("haproxy", false, false), "haproxy")
	add(haproxy("haproxy-splice", false, true), "haproxy")
	add(haproxy("haproxy-state", true, false), "haproxy")
	add(caddy(os.Getenv("PEER_CADDY")), os.Getenv("PEER_CADDY"))
	add(kamal(os.Getenv("PEER_KAMAL")), os.Getenv("PEER_KAMAL"))
	add(binary("httputil", *binDir+"/peer-httputil"), *binDir+"/peer-httputil")
	add(binary("fasthttp", *binDir+"/peer-fasthttp"), *binDir+"/peer-fasthttp")
	list = append(list, &peer{name: "direct"})

	f, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	for r := *first; r < *first+*rounds; r++ {
		for set := range strings.SplitSeq(*settings, ",") {
			for suite := range strings.SplitSeq(*suites, ",") {
				for _, p := range list {
					if *only != "" && !slices.Contains(strings.Split(*only, ","), p.name) {
						continue
					}
					if !applies(suite, set, p.name) {
						continue
					}
					emit := func(test string, raw any) {
						b, _ := json.Marshal(raw)
						l, _ := json.Marshal(line{r, suite, set, p.name, test, b})
						f.Write(append(l, '\n'))
					}
					if err := locked(func() error { return runSuite(p, suite, set, emit) }); err != nil {
						log.Printf("%s %s %s: %v", p.name, suite, set, err)
						emit("error", map[string]string{"err": err.Error()})
					}
				}
			}
		}
		log.Printf("round %d done", r)
	}
	f.Close()
	if !*quiet {
		if err := reportFile(os.Stdout, *out); err != nil {
			log.Fatal(err)
		}
	}
}

// applies leaves out what says nothing: variants of a peer where the variant
// makes no difference, and the suites that need no pinning.
func applies(suite, set, name string) bool {
	if set == "pinned" && (suite == "hold" || suite == "long" || suite == "sites" || suite == "swap") {
		return false
	}
	if own := name == *oursName || name == *oursName+allOn; suite == "features" || strings.HasSuffix(name, allOn) {
		return suite == "features" && own
	}
	switch name {
	case "nginx-flag":
		return suite == "swap" || suite == "keep" || suite == "long"
	case "haproxy-state":
		return suite == "swap" || suite == "long"
	case "haproxy-splice":
		return suite == "bulk"
	case "direct":
		return suite == "keep" || suite == "bulk" || suite == "conn"
	}
	return true
}

func locked(fn func() error) error {
	if *lock == "" {
		return fn()
	}
	f, err := os.OpenFile(*lock, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return fn()
}

type running struct {
	cmd *exec.Cmd
	log *os.File
}

func spawn(dir, cpu, name string, env []string, argv ...string) (*running, error) {
	if cpu != "" {
		argv = append([]string{"taskset", "-c", cpu}, argv...)
	}
	c := exec.Command(argv[0], argv[1:]...)
	lf, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	c.Stderr = lf
	c.Env = append(os.Environ(), env...)
	c.Dir = dir
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &running{c, lf}, nil
}

// stop ends the process that spawn started, and nothing else.
func (r *running) stop() {
	r.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan bool)
	go func() { r.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(1500 * time.Millisecond):
		for _, p := range proc.Tree(r.cmd.Process.Pid) {
			syscall.Kill(p, syscall.SIGKILL)
		}
		<-done
	}
	r.log.Close()
}

func waitPort(addr string, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

type bench struct {
	e     *env
	p     *peer
	proxy *running
	cpu   string // of load generator and backends
	addr  string
	tls   string
}

func (b *bench) pid() string { return strconv.Itoa(b.proxy.cmd.Process.Pid) }

func (b *bench) tool(argv ...string) ([]byte, error) {
	if b.cpu != "" {
		argv = append([]string{"taskset", "-c", b.cpu}, argv...)
	}
	// No run takes longer but one of many swaps, of which each takes 300 ms.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+time.Duration(*nswaps)*300*time.Millisecond)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var eb bytes.Buffer
	c.Stderr = &eb
	o, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, eb.String())
	}
	return o, err
}

func (b *bench) loadgen(args ...string) (json.RawMessage, error) {
	o, err := b.tool(append([]string{*binDir + "/loadgen"}, args...)...)
	return json.RawMessage(bytes.TrimSpace(o)), err
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
var wrkN = regexp.MustCompile(`(\d+) requests in`)
var wrkErr = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)

// wrk saturates the proxy and gives req/s and the proxy's CPU per request.
func (b *bench) wrk(url string, d float64, c int, more ...string) (map[string]any, error) {
	u0, s0 := proc.CPU(b.proxy.cmd.Process.Pid)
	o, err := b.tool(append(append([]string{"wrk", "-t1", "-c" + strconv.Itoa(c), fmt.Sprintf("-d%ds", int(d+.5))}, more...), url)...)
	u1, s1 := proc.CPU(b.proxy.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	r, n := wrkRate.FindSubmatch(o), wrkN.FindSubmatch(o)
	if r == nil || n == nil {
		return nil, fmt.Errorf("wrk said %s", o)
	}
	rps, _ := strconv.ParseFloat(string(r[1]), 64)
	cnt, _ := strconv.ParseFloat(string(n[1]), 64)
	m := map[string]any{"rps": rps, "CPUus": (u1 - u0 + s1 - s0) / cnt * 1e6, "UserUs": (u1 - u0) / cnt * 1e6, "SysUs": (s1 - s0) / cnt * 1e6}
	if e := wrkErr.Find(o); e != nil {
		m["err"] = strings.TrimSpace(string(e))
	}
	return m, nil
}

func runSuite(p *peer, suite, set string, emit func(string, any)) error {
	if suite == "sites" {
		for _, n := range []int{1, 1000, 10000} {
			if err := withPeer(p, set, n, func(b *bench) error { return sites(b, n, emit) }); err != nil {
				return err
			}
		}
		return nil
	}
	if suite == "hold" { // a fresh process each, so that freed memory is not counted
		for _, k := range []string{"idle", "ws", "upload"} {
			if p.name == "fasthttp" && k == "ws" {
				continue
			}
			err := withPeer(p, set, 0, func(b *bench) error {
				r, err := b.loadgen("hold", "-addr", b.addr, "-pid", b.pid(), "-kind", k, "-n", "9000")
				if err == nil {
					emit(k, r)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	return withPeer(p, set, 0, func(b *bench) error {
		switch suite {
		case "keep":
			for r := range strings.SplitSeq(*rates, ",") {
				o, err := b.loadgen("rate", "-addr", b.addr, "-pid", b.pid(), "-rate", r, "-warm", "500ms", "-d", fmt.Sprintf("%.1fs", *secs+.5))
				if err != nil {
					return err
				}
				emit("rate"+r, o)
			}
			o, err := b.wrk("http://"+b.addr+"/", *secs, 64)
			if err != nil {
				return err
			}
			emit("max", o)
		case "features":
			return b.features(emit)
		case "conn":
			o, err := b.loadgen("conn", "-addr", b.addr, "-pid", b.pid(), "-d", fmt.Sprintf("%.1fs", *secs))
			if err != nil {
				return err
			}
			emit("conn", o)
		case "bulk":
			for _, d := range []string{"down", "up"} {
				o, err := b.loadgen("bulk", "-addr", b.addr, "-pid", b.pid(), "-dir", d)
				if err != nil {
					return err
				}
				emit(d, o)
			}
		case "tls":
			o, err := b.loadgen("tls", "-addr", b.tls, "-pid", b.pid(), "-d", fmt.Sprintf("%.1fs", *secs), "-host", "127.0.0.1")
			if err != nil {
				return err
			}
			emit("handshake", o)
			o, err = b.loadgen("tls", "-addr", b.tls, "-pid", b.pid(), "-d", fmt.Sprintf("%.1fs", *secs), "-host", "127.0.0.1", "-resume")
			if err != nil {
				return err
			}
			emit("resume", o)
			m, err := b.wrk("https://"+b.tls+"/", *secs, 64)
			if err != nil {
				return err
			}
			emit("max", m)
		case "swap":
			args := []string{"rate", "-addr", b.addr, "-pid", b.pid(), "-rate", "5000", "-swap", b.p.swap(b.e), "-swaps", strconv.Itoa(*nswaps), "-every", "300ms"}
			if *keep != "" {
				if file := filepath.Join(*keep, p.name+".trace"); !exists(file) {
					args = append(args, "-record", file, "-name", p.name)
				}
			}
			o, err := b.loadgen(args...)
			if err != nil {
				return err
			}
			emit("swap", o)
		case "long":
			if p.name == "fasthttp" { // no websockets
				break
			}
			o, err := b.loadgen("long", "-addr", b.addr, "-swap", b.p.swap(b.e), "-secs", "20")
			if err != nil {
				return err
			}
			emit("long", o)
		}
		return nil
	})
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func sites(b *bench, n int, emit func(string, any)) error {
	rss := float64(proc.RSS(b.proxy.cmd.Process.Pid)) / (1 << 20)
	o, err := b.loadgen("rate", "-addr", b.addr, "-pid", b.pid(), "-rate", "5000", "-d", "3s", "-hosts", strconv.Itoa(n))
	if err != nil {
		return err
	}
	var m map[string]any
	json.Unmarshal(o, &m)
	m["RSSIdleMiB"] = rss
	m["StartMs"] = float64(startMs)
	emit(strconv.Itoa(n), m)
	return nil
}

var startMs int64

// withPeer starts two backends and the peer, warms it, runs fn, and stops
// them.
func withPeer(p *peer, set string, nSites int, fn func(*bench) error) error {
	proxyCPU, loadCPU, workers := "", "", 2
	if set == "pinned" {
		proxyCPU, loadCPU, workers = "0", "1", 1
	}
	dir := filepath.Join(*workDir, p.name)
	os.MkdirAll(dir, 0o755)
	at := func(n int) string { return fmt.Sprintf("127.0.0.1:%d", *base+n) }
	e := &env{Dir: dir, Bin: *binDir, Templates: *tmplDir, Listen: at(80), TLS: at(443), Admin: at(81), A: at(901), B: at(902),
		Cert: filepath.Join(*workDir, "cert.pem"), Key: filepath.Join(*workDir, "key.pem"), Workers: workers, Sites: nSites}
	for i := range nSites {
		e.SiteList = append(e.SiteList, i)
	}
	if _, err := os.Stat(e.Cert); err != nil {
		c := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", e.Key, "-out", e.Cert,
			"-days", "30", "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1")
		if o, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("openssl: %w: %s", err, o)
		}
	}
	a, err := spawn(dir, loadCPU, "backend-a", nil, *binDir+"/backend", "-listen", e.A, "-version", "A")
	if err != nil {
		return err
	}
	defer a.stop()
	bb, err := spawn(dir, loadCPU, "backend-b", nil, *binDir+"/backend", "-listen", e.B, "-version", "B")
	if err != nil {
		return err
	}
	defer bb.stop()
	if err := waitPort(e.A, 3*time.Second); err != nil {
		return err
	}
	if err := waitPort(e.B, 3*time.Second); err != nil {
		return err
	}
	b := &bench{e: e, p: p, cpu: loadCPU, addr: e.Listen, tls: e.TLS}
	if p.start == nil { // direct: the backend is the thing measured
		b.addr, b.proxy = e.A, a
		return fn(b)
	}
	argv, err := p.start(e)
	if err != nil {
		return err
	}
	t := time.Now()
	pr, err := spawn(dir, proxyCPU, "proxy", []string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir, "KAMAL_PROXY_SOCKET=" + dir + "/kamal-proxy.sock"}, argv...)
	if err != nil {
		return err
	}
	b.proxy = pr
	defer pr.stop()
	if err := waitPort(e.Listen, 60*time.Second); err != nil {
		l, _ := os.ReadFile(filepath.Join(dir, "proxy.log"))
		return fmt.Errorf("did not start: %w: %s", err, l[:min(len(l), 600)])
	}
	startMs = time.Since(t).Milliseconds()
	if p.after != nil {
		time.Sleep(100 * time.Millisecond)
		if err := p.after(e); err != nil {
			return err
		}
	}
	req, _ := http.NewRequest("GET", "http://"+e.Listen+"/", nil)
	if nSites > 0 {
		req.Host = "site0.test"
	}
	res, err := (&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 200 || len(body) != 128 || res.Header.Get("X-Version") != "A" {
		return fmt.Errorf("warm-up answered %s %v %.80q", res.Status, res.Header, body)
	}
	return fn(b)
}
