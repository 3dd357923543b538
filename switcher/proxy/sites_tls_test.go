package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// TestSitesShowTheirCertificates: by the server name of the handshake each host shows its own certificate, over HTTP/1.1 and HTTP/2; an unknown one
// gets the first, and no site. One that is replaced while the sites serve is seen by the next handshake of its host, and of no other.
func TestSitesShowTheirCertificates(t *testing.T) {
	dir := t.TempDir()
	certs, err := proxy.LoadCertificates(proxy.CertificatesConfig{CheckEvery: -1, Files: []proxy.CertificateFiles{
		certificate(t, dir+"/one", "one", nil, "one.test"), certificate(t, dir+"/two", "two", nil, "*.two.test")}})
	require.NoError(t, err)
	s, err := proxy.NewSites(proxy.SitesConfig{})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { assert.ErrorIs(t, s.Serve(tls.NewListener(l, certs.TLSConfig())), http.ErrServerClosed) })
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		serving.Wait()
	})
	m := &many{s, l.Addr().String()}
	m.site(t, named(t, "one"), named(t, "one green"), "one.test")
	m.site(t, named(t, "two"), named(t, "two green"), "www.two.test")

	for _, major := range []int{1, 2} {
		p := new(http.Protocols)
		p.SetHTTP1(major == 1)
		p.SetHTTP2(major == 2)
		ask := func(c *http.Client, host string) (cn, body string, status int) {
			t.Helper()
			resp, err := c.Get("https://" + host + "/")
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, major, resp.ProtoMajor)
			return resp.TLS.PeerCertificates[0].Subject.CommonName, string(b), resp.StatusCode
		}
		client := func() *http.Client {
			tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, m.addr)
				}}
			t.Cleanup(tr.CloseIdleConnections)
			return &http.Client{Transport: tr, Timeout: patience}
		}
		c := client()
		is := func(c *http.Client, host, cn, body string, status int) {
			t.Helper()
			gotCN, gotBody, gotStatus := ask(c, host)
			assert.Equal(t, []any{cn, status}, []any{gotCN, gotStatus}, host)
			if status == 200 {
				assert.Equal(t, body, gotBody, host)
			}
		}
		is(c, "one.test", "one", "one", 200)
		is(c, "www.two.test", "two", "two", 200)
		is(c, "unknown.test", "one", "", http.StatusMisdirectedRequest)

		certificate(t, dir+"/two", "two anew", nil, "*.two.test")
		require.NoError(t, certs.Reload())
		is(c, "www.two.test", "two", "two", 200) // a connection that is open goes on
		c = client()
		is(c, "www.two.test", "two anew", "two", 200)
		is(c, "one.test", "one", "one", 200)

		certificate(t, dir+"/two", "two", nil, "*.two.test")
		require.NoError(t, certs.Reload())
	}
}
