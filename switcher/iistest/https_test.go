package iistest_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHTTPS: certificates belong to HTTP.sys, by host name with SNI, else by address; a new binding has none until it gets one.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "site", "Public", "/+bindings.[protocol='https',bindingInformation='*:443:www.example.test',sslFlags='1']")
	assert.Error(t, w.get("https://www.example.test").err, "no certificate")
	require.NoError(t, w.AddCertificate("*:443:www.example.test", 1))
	assert.Equal(t, "v1", w.get("https://www.example.test").release)
	assert.Error(t, w.get("https://other.example.test").err, "SNI of a name without a certificate")

	w.must("add", "site", "/name:Other", "/bindings:https/*:443:", "/physicalPath:"+w.folder+"/v3", "/[path='/'].applicationPool:B")
	require.NoError(t, w.AddCertificate("*:443:", 0))
	c := w.Client()
	defer c.CloseIdleConnections()
	c.Transport.(*http.Transport).TLSClientConfig.ServerName = "localhost" // the certificate for the address is for this one
	assert.Equal(t, "Other", ask(c, http.MethodGet, "https://other.example.test", nil).site)

	out := w.must("list", "site", "Public", "/config:*", "/xml")
	assert.Contains(t, out, `<binding protocol="https" bindingInformation="*:443:www.example.test" sslFlags="1" />`)
	w.must("set", "site", "Public", "/bindings:http/*:80:,https/*:443:www.example.test")
	assert.Contains(t, w.must("list", "site", "Public", "/config:*", "/xml"), `bindingInformation="*:443:www.example.test" sslFlags="0"`, "replacing all bindings loses their flags")
	assert.Error(t, w.AddCertificate("nonsense", 0))

	url, err := w.URL("https/*:443:www.example.test")
	require.NoError(t, err)
	assert.Regexp(t, `^https://127\.0\.0\.1:\d+$`, url)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{ServerName: "www.example.test", RootCAs: w.RootCAs()})
	require.NoError(t, err)
	assert.NoError(t, conn.Close())
	_, err = w.URL("net.tcp/808:*")
	assert.Error(t, err)
}

// TestUploads: a body of megabytes arrives whole while the process that takes it is replaced.
func TestUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.get(public)
	r, pw := io.Pipe()
	end := make(chan answer, 1)
	go func() { end <- w.do(http.MethodPost, public+"/upload", r) }()
	chunk := strings.Repeat("x", 1<<16)
	for i := range 64 {
		_, err := io.WriteString(pw, chunk)
		require.NoError(t, err)
		if i == 0 { // what is written may wait in sockets until the request has a worker process
			w.eventually("the upload is in its process", func() bool {
				out, _ := w.run("list", "requests", "/apppool.name:A")
				return strings.Contains(out, "POST /upload")
			})
		}
		if i == 20 {
			w.rootSwap("B", "v2")
		}
		if i == 40 {
			assert.Equal(t, "v2", w.get(public).release)
			assert.Contains(t, w.must("list", "requests", "/apppool.name:A"), "POST /upload")
		}
	}
	require.NoError(t, pw.Close())
	a := w.ended(end)
	assert.NoError(t, a.err)
	assert.Equal(t, "v1 4194304", a.body)
}
