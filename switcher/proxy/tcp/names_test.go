package tcp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// selfSigned is a certificate for that host.
func selfSigned(t *testing.T, host string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secret is an application that ends TLS itself, with a certificate for that host, and says its name.
func secret(t *testing.T, host, name string) string {
	cfg := &tls.Config{Certificates: []tls.Certificate{selfSigned(t, host)}}
	return listen(t, func(c *net.TCPConn) {
		s := tls.Server(c, cfg)
		defer s.Close()
		fmt.Fprintln(s, name)
		io.Copy(s, s)
	})
}

func newNames(t *testing.T, cfg tcp.NamesConfig) (*tcp.Names, string) {
	n, err := tcp.NewNames(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- n.Serve(l) }()
	t.Cleanup(func() {
		assert.NoError(t, n.Close())
		assert.ErrorIs(t, <-served, net.ErrClosed)
	})
	return n, l.Addr().String()
}

// meet asks for that server name and returns the application's name, and the host of the certificate that it showed.
func meet(t *testing.T, addr, host string) (name, certificate string) {
	t.Helper()
	raw := dial(t, addr)
	c := tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	_, err := fmt.Fscanln(c, &name)
	require.NoError(t, err)
	big := make([]byte, 300<<10)
	rand.Read(big)
	go c.Write(big)
	back := make([]byte, len(big))
	_, err = io.ReadFull(c, back)
	require.NoError(t, err)
	assert.Equal(t, big, back)
	return name, c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func TestSitesShareAnAddressByName(t *testing.T) {
	one := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "one.test", "one-blue"), "green": secret(t, "one.test", "one-green")}, Active: "blue"})
	two := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "two.test", "two")}, Active: "blue"})
	wild := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "wild.test", "wild")}, Active: "blue"})
	other := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "other.test", "other")}, Active: "blue"})
	_, addr := newNames(t, tcp.NamesConfig{Sites: map[string]*tcp.Switcher{"One.test": one.Switcher, "two.site.test": two.Switcher, "*.site.test": wild.Switcher},
		Default: other.Switcher})
	for host, want := range map[string][2]string{
		"one.test": {"one-blue", "one.test"}, "ONE.TEST": {"one-blue", "one.test"}, "two.site.test": {"two", "two.test"}, "x.site.test": {"wild", "wild.test"},
		"a.b.site.test": {"other", "other.test"}, "site.test": {"other", "other.test"}, "unknown.test": {"other", "other.test"}, "": {"other", "other.test"},
	} {
		name, certificate := meet(t, addr, host)
		assert.Equal(t, want, [2]string{name, certificate}, "host %q", host)
	}
	require.NoError(t, one.Activate(t.Context(), plain("green")))
	name, _ := meet(t, addr, "one.test")
	assert.Equal(t, "one-green", name)
}

func TestASwitchHoldsForThoseWhoHaveNotSpokenYet(t *testing.T) {
	one := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "one.test", "blue"), "green": secret(t, "one.test", "green")}, Active: "blue"})
	_, addr := newNames(t, tcp.NamesConfig{Sites: map[string]*tcp.Switcher{"one.test": one.Switcher}})
	raw := dial(t, addr)
	require.NoError(t, one.Activate(t.Context(), plain("green")))
	c := tls.Client(raw, &tls.Config{ServerName: "one.test", InsecureSkipVerify: true})
	var name string
	_, err := fmt.Fscanln(c, &name)
	require.NoError(t, err)
	assert.Equal(t, "green", name)
}

// slow sends a byte at a time.
type slow struct{ net.Conn }

func (s slow) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestAHelloInSmallPieces(t *testing.T) {
	one := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "one.test", "blue")}, Active: "blue"})
	_, addr := newNames(t, tcp.NamesConfig{Sites: map[string]*tcp.Switcher{"one.test": one.Switcher}})
	c := tls.Client(slow{dial(t, addr).TCPConn}, &tls.Config{ServerName: "one.test", InsecureSkipVerify: true})
	var name string
	_, err := fmt.Fscanln(c, &name)
	require.NoError(t, err)
	assert.Equal(t, "blue", name)
}

func TestWhoDoesNotSpeakTLSGetsTheDefault(t *testing.T) {
	other := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
	_, addr := newNames(t, tcp.NamesConfig{Default: other.Switcher})
	for _, first := range []string{"x", "GET / HTTP/1.1", "\x15\x03\x01", "\x16garbage that begins like a handshake"} {
		c := dial(t, addr)
		c.say(first)
		assert.Equal(t, "blue", c.line())
		assert.Equal(t, first, c.line(), "no byte is lost")
	}
	_, addr = newNames(t, tcp.NamesConfig{Default: other.Switcher, HelloTimeout: time.Millisecond})
	assert.Equal(t, "blue", dial(t, addr).line(), "who waits for the server to speak first")
}

func TestWhoIsForNobodyIsClosed(t *testing.T) {
	one := newDoor(t, tcp.Config{Slots: map[string]string{"blue": secret(t, "one.test", "blue")}, Active: "blue"})
	_, addr := newNames(t, tcp.NamesConfig{Sites: map[string]*tcp.Switcher{"one.test": one.Switcher}})
	assert.Error(t, tls.Client(dial(t, addr), &tls.Config{ServerName: "two.test", InsecureSkipVerify: true}).Handshake())
	c := dial(t, addr)
	c.say("hello")
	assert.NoError(t, ignoreReset(c.end()))
	c = dial(t, addr)
	require.NoError(t, c.CloseWrite())
	assert.NoError(t, ignoreReset(c.end()))
	assert.Zero(t, one.inFlight(t, "blue"))
}

func TestCloseOfNamesLeavesConnectionsToTheirSwitchers(t *testing.T) {
	other := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
	n, addr := newNames(t, tcp.NamesConfig{Default: other.Switcher})
	c := dial(t, addr)
	c.say("hello")
	require.Equal(t, "blue", c.line())
	require.Equal(t, "hello", c.line())
	var silent []*client
	for range 3 {
		silent = append(silent, dial(t, addr))
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { assert.NoError(t, n.Close()) })
	}
	wg.Wait()
	for _, s := range silent {
		assert.NoError(t, ignoreReset(s.end()))
	}
	c.say("still here")
	assert.Equal(t, "still here", c.line())
}

func TestMistakesInNamesAreToldAtOnce(t *testing.T) {
	_, err := tcp.NewNames(tcp.NamesConfig{})
	assert.ErrorContains(t, err, "names no Switcher")
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}})
	require.NoError(t, err)
	defer s.Close()
	_, err = tcp.NewNames(tcp.NamesConfig{Sites: map[string]*tcp.Switcher{"a.test": nil, "B.test": s, "b.test.": s, "*": s, "*.": s, "x.*.test": s}})
	for _, want := range []string{`"a.test" has no Switcher`, `"b.test" is there twice`, `"*" is neither`, `"*." is neither`, `"x.*.test" is neither`} {
		assert.ErrorContains(t, err, want)
	}
}
