package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// loopbackCertificate makes one for 127.0.0.1.
func loopbackCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
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

// serveTLS serves on loopback over TLS, and returns a configuration for its clients.
func serveTLS(t testing.TB, cfg proxy.Config) (*front, *tls.Config) {
	cert, pool := loopbackCertificate(t)
	p, err := proxy.New(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})) }()
	t.Cleanup(func() {
		p.Close()
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return &front{p, l.Addr().String(), "https://" + l.Addr().String()}, &tls.Config{RootCAs: pool}
}

// TestTLS carries what the plain path carries, and tells the slot that it came over TLS.
func TestTLS(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			upgrader("first", echo)(w, r)
		case r.Method == http.MethodPost:
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		default:
			fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"))
		}
	})
	f, cfg := serveTLS(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue"})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: 2 * patience}
	defer client.CloseIdleConnections()
	for range 3 {
		status, _, body := ask(t, client, f.url)
		assert.Equal(t, 200, status)
		assert.Equal(t, "https", body)
	}
	big := make([]byte, 3<<20)
	rand.Read(big)
	for _, body := range []io.Reader{bytes.NewReader(big), io.MultiReader(bytes.NewReader(big))} {
		resp, err := client.Post(f.url, "", body)
		require.NoError(t, err)
		back, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		assert.True(t, bytes.Equal(big, back))
	}

	c, err := tls.Dial("tcp", f.addr, cfg)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"+upgradeHead+"early")
	br := bufio.NewReader(c)
	for range 2 {
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		assert.Equal(t, "https", string(body))
	}
	head, err := readHead(br)
	require.NoError(t, err)
	assert.Contains(t, head, "101 ")
	got := make([]byte, 10)
	_, err = io.ReadFull(br, got)
	require.NoError(t, err)
	assert.Equal(t, "firstearly", string(got))
	c.CloseWrite()
	_, err = io.ReadAll(br)
	assert.NoError(t, err)
	f.idle(t, "blue")

	// A client that speaks no TLS gets no answer of the slot, and does no harm.
	plain := f.raw(t)
	plain.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	text, _ := io.ReadAll(plain.br)
	assert.NotContains(t, string(text), "200 OK")
	status, _, _ := ask(t, client, f.url)
	assert.Equal(t, 200, status)
}

// TestBrokenAnswerToAnOldClientOverTLS ends without TLS's own goodbye: nothing else tells a client of HTTP/1.0 that its answer is not whole.
func TestBrokenAnswerToAnOldClientOverTLS(t *testing.T) {
	slot := rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
	})
	f, cfg := serveTLS(t, proxy.Config{Slots: map[string]string{"blue": slot}, Active: "blue"})
	c, err := tls.Dial("tcp", f.addr, cfg)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
	_, err = io.ReadAll(c)
	assert.Error(t, err, "what came is not all")
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
