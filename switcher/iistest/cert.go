package iistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"
)

// newAuthority makes the authority that signs the machine's certificates.
func (s *Server) newAuthority() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "emulated IIS"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	s.caKey = key
	s.ca, err = x509.ParseCertificate(der)
	return err
}

// RootCAs holds the authority that has signed all certificates of the machine.
func (s *Server) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca)
	return pool
}

// AddCertificate gives HTTP.sys a certificate for an https binding, as netsh http add sslcert does; the binding's sslFlags say whether it is
// for its host name (1, SNI) or for its address and port. Bindings in the configuration that New finds have theirs already. information is that
// of the binding, such as "*:443:www.example.test".
func (s *Server) AddCertificate(information string, sslFlags int) error {
	b := binding{protocol: "https", info: information, flags: sslFlags}
	if _, _, _, ok := b.web(); !ok {
		return fmt.Errorf("binding %q is not for https", information)
	}
	return s.addCertificate(b)
}

// certificateKey is where HTTP.sys keeps the certificate of a binding.
func (b binding) certificateKey() string {
	ip, port, host, _ := b.web()
	if b.flags&1 != 0 && host != "" {
		return host + ":" + strconv.Itoa(port)
	}
	return ip + ":" + strconv.Itoa(port)
}

func (s *Server) addCertificate(b binding) error {
	ip, _, host, ok := b.web()
	if !ok || !b.secure() {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: b.info}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP(home), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if host != "" {
		t.DNSNames = append(t.DNSNames, host)
	}
	if a := net.ParseIP(ip); a != nil {
		t.IPAddresses = append(t.IPAddresses, a)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, s.ca, key.Public(), s.caKey)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[b.certificateKey()] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}

// certificate picks as HTTP.sys does: by host name, then by address, then by port alone.
func (p *port) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	number := ":" + strconv.Itoa(p.at.port)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, key := range []string{strings.ToLower(hello.ServerName) + number, p.at.ip + number, "*" + number} {
		if c := p.s.certs[key]; c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no certificate for %q on port %d", hello.ServerName, p.at.port)
}
