package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// certificate writes a certificate of that common name for the hosts into dir, and returns its files.
func certificate(t *testing.T, dir, cn string, key any, hosts ...string) proxy.CertificateFiles {
	t.Helper()
	var pub any
	switch k := key.(type) {
	case *rsa.PrivateKey:
		pub = &k.PublicKey
	case nil:
		k2, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		key, pub = k2, &k2.PublicKey
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, DNSNames: hosts,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	f := proxy.CertificateFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(f.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return f
}

// shown returns the common name of the certificate that a client with that server name sees, by a real handshake.
func shown(t *testing.T, c *proxy.Certificates, host string, change ...func(*tls.Config)) string {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { tls.Server(there, c.TLSConfig()).Handshake() })
	cfg := &tls.Config{ServerName: host, InsecureSkipVerify: true}
	for _, f := range change {
		f(cfg)
	}
	conn := tls.Client(here, cfg)
	require.NoError(t, conn.Handshake())
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificatesAreChosenByName(t *testing.T) {
	dir := t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{
		certificate(t, dir+"/first", "first", nil, "first.test"),
		certificate(t, dir+"/wild", "wild", nil, "*.site.test"),
		certificate(t, dir+"/exact", "exact", nil, "WWW.site.test", "site.test"),
		certificate(t, dir+"/rsa", "rsa", rsaKey, "both.test"),
		certificate(t, dir+"/ec", "ec", nil, "both.test"),
	}})
	require.NoError(t, err)
	for host, want := range map[string]string{"first.test": "first", "a.site.test": "wild", "www.SITE.test": "exact", "site.test": "exact",
		"a.b.site.test": "first", "unknown.test": "first", "": "first", "both.test": "rsa"} {
		assert.Equal(t, want, shown(t, c, host), "host %q", host)
	}
	onlyEC := func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	assert.Equal(t, "ec", shown(t, c, "both.test", onlyEC), "a client that cannot use the first kind of key gets the second")
}

func TestCertificatesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	c, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{certificate(t, dir, "one", nil, "a.test")}, CheckEvery: time.Nanosecond})
	require.NoError(t, err)
	assert.Equal(t, "one", shown(t, c, "a.test"))
	soon := func(want string) { // a clock may be coarser than a nanosecond
		require.EventuallyWithT(t, func(ct *assert.CollectT) { assert.Equal(ct, want, shown(t, c, "a.test")) }, patience, time.Millisecond)
	}
	certificate(t, dir, "two", nil, "b.test")
	soon("two")
	assert.Equal(t, "two", shown(t, c, "b.test"))
	require.NoError(t, c.Err())

	// The same size and time as before: only what was read long after its change may be trusted to show the next one.
	st, err := os.Stat(filepath.Join(dir, "cert.pem"))
	require.NoError(t, err)
	for i := range 5 {
		f := certificate(t, dir, string(rune('v'+i)), nil, "a.test")
		for _, name := range []string{f.Cert, f.Key} {
			require.NoError(t, os.Chtimes(name, st.ModTime(), st.ModTime()))
		}
		soon(string(rune('v' + i)))
	}
}

func TestCertificatesAreLookedAtOnceASecond(t *testing.T) {
	dir := t.TempDir()
	files := certificate(t, dir, "one", nil, "a.test")
	synctest.Test(t, func(t *testing.T) {
		c, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{files}})
		require.NoError(t, err)
		never, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{files}, CheckEvery: -1})
		require.NoError(t, err)
		cn := func(c *proxy.Certificates) string {
			x, err := c.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.test"})
			require.NoError(t, err)
			return x.Leaf.Subject.CommonName
		}
		certificate(t, dir, "two", nil, "a.test")
		time.Sleep(time.Second - time.Nanosecond)
		assert.Equal(t, "one", cn(c))
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "two", cn(c))
		require.NoError(t, os.WriteFile(files.Key, nil, 0o600))
		time.Sleep(time.Second)
		assert.Equal(t, "two", cn(c), "a broken pair changes nothing")
		assert.ErrorContains(t, c.Err(), strconv.Quote(files.Key))
		certificate(t, dir, "three", nil, "a.test")
		assert.Equal(t, "two", cn(c))
		require.NoError(t, c.Reload())
		assert.Equal(t, "three", cn(c), "at once, on a call")

		time.Sleep(time.Hour)
		assert.Equal(t, "one", cn(never))
		require.NoError(t, never.Reload())
		assert.Equal(t, "three", cn(never))
	})
}

func TestABrokenPairChangesNothing(t *testing.T) {
	dir := t.TempDir()
	files := certificate(t, dir+"/a", "one", nil, "a.test")
	other := certificate(t, dir+"/b", "other", nil, "b.test")
	var log bytes.Buffer
	c, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{files, other}, CheckEvery: -1,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	whole, err := os.ReadFile(files.Cert)
	require.NoError(t, err)
	strange, err := os.ReadFile(other.Cert)
	require.NoError(t, err)

	for name, spoil := range map[string]func() error{
		"empty":              func() error { return os.WriteFile(files.Cert, nil, 0o600) },
		"half written":       func() error { return os.WriteFile(files.Cert, whole[:len(whole)/2], 0o600) },
		"of another key":     func() error { return os.WriteFile(files.Cert, strange, 0o600) },
		"no certificate":     func() error { return os.WriteFile(files.Cert, []byte("hello"), 0o600) },
		"gone":               func() error { return os.Remove(files.Cert) },
		"a folder":           func() error { os.Remove(files.Cert); return os.Mkdir(files.Cert, 0o700) },
		"without its key":    func() error { return os.Rename(files.Key, files.Key+"~") },
		"an empty key":       func() error { return os.WriteFile(files.Key, nil, 0o600) },
		"a key of another":   func() error { b, _ := os.ReadFile(other.Key); return os.WriteFile(files.Key, b, 0o600) },
		"both in one, empty": func() error { os.WriteFile(files.Key, nil, 0o600); return os.WriteFile(files.Cert, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, spoil())
			log.Reset()
			certificate(t, dir+"/b", "other "+name, nil, "b.test")
			for range 2 {
				assert.ErrorContains(t, c.Reload(), strconv.Quote(files.Cert))
				assert.ErrorContains(t, c.Err(), strconv.Quote(files.Cert))
				assert.Equal(t, "one", shown(t, c, "a.test"), "the one before stays in force")
				assert.Equal(t, "other "+name, shown(t, c, "b.test"), "the other pair is not held back")
			}
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("cannot be used")), "it is told once: %s", log.String())

			os.RemoveAll(files.Cert)
			certificate(t, dir+"/a", "one", nil, "a.test")
			assert.NoError(t, c.Reload())
			assert.NoError(t, c.Err())
			assert.Equal(t, "one", shown(t, c, "a.test"))
		})
	}
}

func TestCertificatesMistakesAreToldAtOnce(t *testing.T) {
	_, err := proxy.LoadCertificates(proxy.CertificatesConfig{})
	assert.ErrorContains(t, err, "Files is empty")
	dir := t.TempDir()
	_, err = proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{
		{Cert: "only"}, {Cert: dir + "/missing.pem", Key: dir + "/missing.key"}, certificate(t, dir, "right", nil)}})
	assert.ErrorContains(t, err, "number 0 lacks")
	assert.ErrorContains(t, err, "missing.pem")
	assert.ErrorContains(t, err, "missing.key")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestACertificateIsReplacedUnderTheProxy(t *testing.T) {
	dir := t.TempDir()
	files := certificate(t, dir, "one", nil, "a.test")
	certs, err := proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{files}, CheckEvery: time.Nanosecond})
	require.NoError(t, err)
	b := newBackend(t, "blue", hello)
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": b.Listener.Addr().String()}, Active: "blue"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { p.Serve(tls.NewListener(l, certs.TLSConfig())) })
	defer wg.Wait()
	defer p.Close()

	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	ask := func() string {
		resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + l.Addr().String() + "/")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	assert.Equal(t, "one", ask())
	certificate(t, dir, "two", nil, "a.test")
	assert.Equal(t, "one", ask(), "the same connection goes on")
	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		tr.CloseIdleConnections()
		assert.Equal(ct, "two", ask())
	}, patience, time.Millisecond)
}
