package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// CertificateFiles are the two PEM files of one certificate: the chain, leaf first, and its private key. They may be the same file.
type CertificateFiles struct{ Cert, Key string }

// CertificatesConfig says where certificates lie. Only Files is required.
type CertificatesConfig struct {
	// Files are the pairs. A client that names a host gets the first pair made out to that host, else the first made out to a wildcard that
	// covers it; of several such pairs the first whose kind of key it can use. One that names none, or one that no pair is for, gets the first.
	Files []CertificateFiles

	// CheckEvery is how often, at most, the files are looked at, by size and time of change, when a client comes. 0: 1s; negative: never, and
	// only Reload reads them again.
	CheckEvery time.Duration

	Logger *slog.Logger // is told of pairs that changed, and of such that cannot be used; nil: silent
}

// Certificates are certificates in files, for a tls.Config. Files that change are read again without a restart, and a pair is replaced as a
// whole: connections that are open keep what they have, the next handshake gets the new one. A pair that cannot be used, since a file is
// missing, half written, or is not that of the other, changes nothing: the one in force stays, and what is wrong is told by Err and to the
// Logger. It is tried again until it can be used. Whether a certificate has expired is not judged. All methods are safe for concurrent use.
type Certificates struct {
	cfg  CertificatesConfig
	set  atomic.Pointer[certificateSet]
	next atomic.Int64 // when the files are to be looked at again, in nanoseconds since began
	born time.Time

	mu    sync.Mutex // held while files are looked at
	pairs []pair
	err   error
}

// certificateSet is what is in force, immutable.
type certificateSet struct {
	all   []*tls.Certificate
	named map[string][]*tls.Certificate // by host, and by wildcard, in small letters
}

// pair is one of Files and what was read of it last.
type pair struct {
	files     CertificateFiles
	cert, key stamp
	text      [2][]byte // what the files held
	inForce   *tls.Certificate
	failed    string // what was told of it already
}

// stamp is how a change of a file is noticed.
type stamp struct {
	size    int64
	changed time.Time
	settled bool // it changed so long before it was read that one more change must show in the time
}

// LoadCertificates reads all pairs. The error lists all mistakes in cfg, or all pairs that cannot be used.
func LoadCertificates(cfg CertificatesConfig) (*Certificates, error) {
	if len(cfg.Files) == 0 {
		return nil, errors.New("proxy: certificates: CertificatesConfig.Files is empty: name at least one pair")
	}
	if cfg.CheckEvery == 0 {
		cfg.CheckEvery = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{cfg: cfg, born: time.Now()}
	var errs []error
	for i, f := range cfg.Files {
		if f.Cert == "" || f.Key == "" {
			errs = append(errs, fmt.Errorf("number %d lacks the name of a file", i))
			continue
		}
		p := pair{files: f}
		if _, err := p.read(); err != nil {
			errs = append(errs, err)
		}
		c.pairs = append(c.pairs, p)
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: certificates: %w", err)
	}
	c.publish()
	c.plan()
	return c, nil
}

// TLSConfig returns a new configuration for a server with these certificates: TLS 1.2 and above, HTTP/2 and
// HTTP/1.1 by ALPN. The caller may change it.
func (c *Certificates) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: c.GetCertificate}
}

// GetCertificate returns the certificate for a client; it fits into a tls.Config. If it is time to, the files are looked at first, by one
// caller, while others go on with what there is.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.cfg.CheckEvery > 0 && int64(time.Since(c.born)) >= c.next.Load() && c.mu.TryLock() {
		c.look(false)
		c.plan()
		c.mu.Unlock()
	}
	s := c.set.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	of := s.all[:1]
	if named := s.named[name]; len(named) > 0 {
		of = named
	} else if _, domain, ok := strings.Cut(name, "."); ok && len(s.named["*."+domain]) > 0 {
		of = s.named["*."+domain]
	} else if name == "" {
		of = s.all
	}
	for _, x := range of {
		if hello.SupportsCertificate(x) == nil {
			return x, nil
		}
	}
	return of[0], nil
}

// Reload reads the files now, all of them. At return what can be used is in force. The error lists the pairs that cannot, whose earlier
// certificates stay in force.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look(true)
	c.plan()
	return c.err
}

// Err returns what was wrong when the files were looked at last; nil: all that is in force is what they hold.
func (c *Certificates) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// plan sets when to look next.
func (c *Certificates) plan() { c.next.Store(int64(time.Since(c.born) + c.cfg.CheckEvery)) }

// look reads the pairs whose files have changed, or all of them. c.mu is held.
func (c *Certificates) look(all bool) {
	var errs []error
	changed := false
	for i := range c.pairs {
		p := &c.pairs[i]
		if !all && p.failed == "" && !p.differs() {
			continue
		}
		fresh, err := p.read()
		switch {
		case err != nil:
			errs = append(errs, err)
			if p.failed != err.Error() {
				p.failed = err.Error()
				c.cfg.Logger.Warn("certificate cannot be used; the one before stays in force", "err", err)
			}
			continue
		case fresh:
			changed = true
			c.cfg.Logger.Info("certificate read anew", "file", p.files.Cert, "names", p.inForce.Leaf.DNSNames, "expires", p.inForce.Leaf.NotAfter)
		}
		p.failed = ""
	}
	if changed {
		c.publish()
	}
	if c.err = multi.Join(errs...); c.err != nil {
		c.err = fmt.Errorf("proxy: certificates: the ones before stay in force: %w", c.err)
	}
}

// publish puts what was read in force.
func (c *Certificates) publish() {
	s := &certificateSet{named: map[string][]*tls.Certificate{}}
	for _, p := range c.pairs {
		s.all = append(s.all, p.inForce)
		for _, n := range p.inForce.Leaf.DNSNames {
			n = strings.ToLower(n)
			s.named[n] = append(s.named[n], p.inForce)
		}
	}
	c.set.Store(s)
}

// differs reports whether one of the files may hold something else than what was read last.
func (p *pair) differs() bool {
	same := func(file string, was stamp) bool {
		st, err := os.Stat(file)
		return err == nil && was.settled && st.Size() == was.size && st.ModTime().Equal(was.changed)
	}
	return !same(p.files.Cert, p.cert) || !same(p.files.Key, p.key)
}

// read reads the pair, and reports whether it is another one than before. An error means that p is as it was.
func (p *pair) read() (fresh bool, err error) {
	certAt, certText, err1 := readStamped(p.files.Cert)
	keyAt, keyText, err2 := readStamped(p.files.Key)
	if err := multi.Join(err1, err2); err != nil {
		return false, fmt.Errorf("pair %q and %q: %w", p.files.Cert, p.files.Key, err)
	}
	if p.inForce == nil || !bytes.Equal(certText, p.text[0]) || !bytes.Equal(keyText, p.text[1]) {
		x, err := tls.X509KeyPair(certText, keyText)
		if err != nil {
			return false, fmt.Errorf("pair %q and %q: %w", p.files.Cert, p.files.Key, err)
		}
		p.inForce, fresh = &x, true
	}
	p.cert, p.key, p.text = certAt, keyAt, [2][]byte{certText, keyText}
	return fresh, nil
}

// readStamped takes the stamp first: what changes while the file is read shows in the next one.
func readStamped(file string) (stamp, []byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return stamp{}, nil, err
	}
	at := stamp{size: st.Size(), changed: st.ModTime(), settled: time.Since(st.ModTime()) > 3*time.Second}
	text, err := os.ReadFile(file)
	return at, text, err
}
