package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// app is an application that says its name, and on /slow begins to and goes on when it is let.
type app struct {
	addr string
	let  chan struct{}
}

func newApp(t *testing.T, name string) *app {
	a := &app{let: make(chan struct{})}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			io.WriteString(w, "slow ")
			http.NewResponseController(w).Flush()
			<-a.let
		}
		io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	a.addr = s.Listener.Addr().String()
	return a
}

// started is a front door that runs.
type started struct {
	addresses
	stop context.CancelFunc
	code chan int
	log  *buffer
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &started{stop: cancel, code: make(chan int, 1), log: &buffer{}}
	ready := make(chan addresses, 1)
	go func() {
		s.code <- run(ctx, append([]string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, args...), s.log, func() {}, func(a addresses) { ready <- a })
	}()
	select {
	case s.addresses = <-ready:
	case code := <-s.code:
		t.Fatalf("ended with %d: %s", code, s.log)
	}
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-s.code:
			assert.Zero(t, code, s.log)
		case <-time.After(patience):
			t.Errorf("does not end: %s", s.log)
		}
	})
	return s
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

func do(t *testing.T, method, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	req.Host = host
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func says(t *testing.T, want, method, url, host string) {
	t.Helper()
	status, body := do(t, method, url, host)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, want, body)
}

// inFlight waits until the counts are as wanted: an answer is its client's a moment before its request has left the count.
func inFlight(t *testing.T, d *started, query, want string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, body := do(t, "GET", "http://"+d.admin+"/inflight"+query, "")
		assert.Equal(c, want, body)
	}, patience, 10*time.Millisecond)
}

func TestASwapTakesEffectAndOldWorkGoesOn(t *testing.T) {
	a, b := newApp(t, "a"), newApp(t, "b")
	d := start(t, "-a", a.addr, "-b", b.addr)
	says(t, "a", "GET", "http://"+d.plain+"/", "")

	slow, err := client.Get("http://" + d.plain + "/slow")
	require.NoError(t, err)
	defer slow.Body.Close()
	inFlight(t, d, "", `{"A":1,"B":0}`)

	says(t, "B", "POST", "http://"+d.admin+"/swap?to=B", "")
	for range 20 {
		says(t, "b", "GET", "http://"+d.plain+"/", "")
	}
	inFlight(t, d, "", `{"A":1,"B":0}`)

	d.stop() // the end waits for it too, and so does what is asked meanwhile
	close(a.let)
	body, err := io.ReadAll(slow.Body)
	require.NoError(t, err)
	assert.Equal(t, "slow a", string(body))
	assert.Zero(t, <-d.code, d.log)
	d.code <- 0
}

func TestSessionsStayAndWhatIsTooMuchWaits(t *testing.T) {
	a, b := newApp(t, "a"), newApp(t, "b")
	d := start(t, "-a", a.addr, "-b", b.addr, "-sessions", "-max-conns", "100", "-max-in-flight", "1")
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	old := &http.Client{Jar: jar, Timeout: patience}
	ask := func(c *http.Client, path string) string {
		resp, err := c.Get("http://" + d.plain + path)
		if !assert.NoError(t, err) {
			return ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		return string(body)
	}
	assert.Equal(t, "a", ask(old, "/"))
	says(t, "B", "POST", "http://"+d.admin+"/swap?to=B", "")
	assert.Equal(t, "a", ask(old, "/"))
	assert.Equal(t, "b", ask(&http.Client{Timeout: patience}, "/"))

	said := make(chan string, 2)
	go func() { said <- ask(old, "/slow") }()
	inFlight(t, d, "", `{"A":1,"B":0}`)
	go func() { said <- ask(old, "/") }()
	select {
	case early := <-said:
		t.Fatalf("%q has not waited", early)
	case <-time.After(100 * time.Millisecond):
	}
	assert.Equal(t, "b", ask(&http.Client{Timeout: patience}, "/"), "the other slot has room")
	close(a.let)
	assert.Equal(t, "slow a", <-said)
	assert.Equal(t, "a", <-said)
}

func TestSitesAreApart(t *testing.T) {
	one, two, other := [2]*app{newApp(t, "one a"), newApp(t, "one b")}, [2]*app{newApp(t, "two a"), newApp(t, "two b")}, [2]*app{newApp(t, "a"), newApp(t, "b")}
	file := filepath.Join(t.TempDir(), "sites")
	require.NoError(t, os.WriteFile(file, []byte("# two sites\n\nOne.test "+one[0].addr+" "+one[1].addr+"\ntwo.test\t"+two[0].addr+" "+two[1].addr+"\n"), 0o600))
	d := start(t, "-a", other[0].addr, "-b", other[1].addr, "-sites", file)
	front, admin := "http://"+d.plain+"/", "http://"+d.admin
	says(t, "one a", "GET", front, "one.test")
	says(t, "one a", "GET", front, "ONE.test:8080")
	says(t, "two a", "GET", front, "two.test")
	says(t, "a", "GET", front, "three.test")

	says(t, "B", "POST", admin+"/swap?to=B&host=one.test", "")
	says(t, "one b", "GET", front, "one.test")
	says(t, "two a", "GET", front, "two.test")
	says(t, "a", "GET", front, "three.test")
	says(t, "B", "POST", admin+"/swap?to=B", "")
	says(t, "b", "GET", front, "three.test")
	says(t, "two a", "GET", front, "two.test")
	inFlight(t, d, "?host=two.test", `{"A":0,"B":0}`)

	status, body := do(t, "POST", admin+"/swap?to=A&host=none.test", "")
	assert.Equal(t, http.StatusNotFound, status)
	assert.Contains(t, body, `no site "none.test"`)
	status, _ = do(t, "POST", admin+"/swap?to=C", "")
	assert.Equal(t, http.StatusBadRequest, status)
	status, _ = do(t, "GET", admin+"/swap?to=A", "")
	assert.Equal(t, http.StatusMethodNotAllowed, status)
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))

	a, b := newApp(t, "a"), newApp(t, "b")
	for name, extra := range map[string][]string{"one site": nil, "sites": {"-sites", os.DevNull}} {
		t.Run(name, func(t *testing.T) {
			d := start(t, append([]string{"-a", a.addr, "-b", b.addr, "-tls-listen", "127.0.0.1:0", "-cert", cert, "-key", key}, extra...)...)
			says(t, "a", "GET", "https://"+d.tls+"/", "")
			says(t, "B", "POST", "http://"+d.admin+"/swap?to=B", "")
			says(t, "b", "GET", "https://"+d.tls+"/", "")
			says(t, "b", "GET", "http://"+d.plain+"/", "")
		})
	}
}

func TestTheStateIsRemembered(t *testing.T) {
	a, b := newApp(t, "a"), newApp(t, "b")
	args := []string{"-a", a.addr, "-b", b.addr, "-state", filepath.Join(t.TempDir(), "state.json")}
	d := start(t, args...)
	says(t, "B", "POST", "http://"+d.admin+"/swap?to=B", "")
	d.stop()
	require.Zero(t, <-d.code, d.log)
	d.code <- 0
	d = start(t, args...)
	says(t, "b", "GET", "http://"+d.plain+"/", "")
}

func TestMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	sites := filepath.Join(dir, "sites")
	require.NoError(t, os.WriteFile(sites, []byte("only-a-host\na.test 127.0.0.1:1 127.0.0.1:2\nA.test 127.0.0.1:1 127.0.0.1:2\nb.test here there\n"), 0o600))
	for name, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"unknown flag":     {[]string{"-x"}, 2, []string{"not defined: -x"}},
		"an argument":      {[]string{"A"}, 2, []string{`what does "A" mean`}},
		"nothing to serve": {[]string{"-listen", "", "-tls-listen", ""}, 2, []string{"nothing to serve"}},
		"TLS without":      {[]string{"-tls-listen", "127.0.0.1:0", "x"}, 2, []string{"-cert and -key", `"x"`}},
		"help":             {[]string{"-h"}, 0, []string{"-tls-listen"}},
		"a bad address":    {[]string{"-a", "nowhere"}, 1, []string{`"nowhere"`}},
		"the same address": {[]string{"-a", "127.0.0.1:1", "-b", "127.0.0.1:1"}, 1, []string{"same address"}},
		"taken":            {[]string{"-listen", taken.Addr().String(), "-admin", ""}, 1, []string{taken.Addr().String()}},
		"no certificate":   {[]string{"-tls-listen", "127.0.0.1:0", "-cert", dir + "/c", "-key", dir + "/k"}, 1, []string{dir + "/c"}},
		"no sites":         {[]string{"-sites", dir + "/none"}, 1, []string{dir + "/none"}},
		"bad sites":        {[]string{"-sites", sites}, 1, []string{"sites:1:", "sites:3:", "has a site already", "sites:4:", `"here"`}},
	} {
		t.Run(name, func(t *testing.T) {
			var out buffer
			assert.Equal(t, tc.code, run(t.Context(), tc.args, &out, func() {}, func(addresses) { t.Error("it serves") }))
			for _, s := range tc.says {
				assert.Contains(t, out.String(), s)
			}
		})
	}
}
