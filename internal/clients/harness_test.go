package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

const patience = 20 * time.Second

// slot is one of which nothing is known but its name.
type slot string

func (s slot) Name() string                { return string(s) }
func (s slot) Ready(context.Context) error { return nil }

// front is a proxy that serves on loopback.
type front struct {
	*proxy.Switcher
	addr, url string
	roots     *x509.CertPool // with TLS
}

func serve(t testing.TB, cfg proxy.Config, withTLS bool) *front {
	p, err := proxy.New(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &front{Switcher: p, addr: l.Addr().String(), url: "http://" + l.Addr().String()}
	if withTLS {
		var cert tls.Certificate
		cert, f.roots = certificate(t)
		f.url = "https://" + f.addr
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(l) }()
	t.Cleanup(func() {
		p.Close()
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return f
}

// certificate makes one for 127.0.0.1.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (f *front) requests(t testing.TB, name string) int {
	l, err := f.InFlight(context.Background(), slot(name))
	require.NoError(t, err)
	return l.Requests
}

func (f *front) idle(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, f.WaitIdle(ctx, slot(name)))
}

// app is an application of HTTP/1.1.
func app(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return strings.TrimPrefix(s.URL, "http://")
}

// program finds a program; without it the test is skipped, or fails where ABSWAP_ENGINES says that all must be there.
func program(t testing.TB, name, install string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("ABSWAP_ENGINES") == "required" {
			t.Fatalf("%s is not here: %s", name, install)
		}
		t.Skipf("%s is not here: %s", name, install)
	}
	return path
}

// run runs a program and returns what it said.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}

func clientTLS(f *front) *tls.Config {
	if f.roots == nil {
		return nil
	}
	return &tls.Config{RootCAs: f.roots}
}
