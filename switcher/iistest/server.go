package iistest

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// ErrClosed is returned by methods of a Server after Close.
var ErrClosed = errors.New("emulated machine is closed")

// Server is an emulated machine with IIS on it. It listens on 127.0.0.1 only. All methods are safe for concurrent use.
type Server struct {
	cfg    Config
	q      Quirks
	dir    string
	ownDir bool

	ctx  context.Context // ends at Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	poke chan struct{} // the file may have changed

	fileMu sync.Mutex // held to write the configuration; taken before mu

	mu          sync.Mutex
	closed      bool
	changed     chan struct{} // closed and renewed whenever something that is waited for may have come
	up          bool          // the services WAS and W3SVC run
	applied     []byte        // what the runtime follows
	conf        *hostConf     // the same, read
	sites       map[int]*site
	pools       map[string]*pool   // by lower-case name
	leaving     map[*pool]struct{} // out of the configuration, with worker processes that still end
	table       []registration
	ports       map[endpoint]*port
	certs       map[string]*tls.Certificate // of HTTP.sys, by "host:port" or "ip:port"
	born        time.Time
	lastPID     int
	lastRequest uint64
	elevation   Elevation
	noMonitor   bool
	faults      []*Fault
	commands    []Command
	rpcDue      bool // RPCErrorAfterPoolChange has one to give

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey

	control *control
}

// New builds the machine and starts it: its services run, sites with serverAutoStart are started. The caller closes it. All that is wrong
// with cfg is in one error.
func New(cfg Config) (_ *Server, err error) {
	cfg, err = cfg.defaults()
	if err != nil {
		return nil, fmt.Errorf("emulated IIS: %w", err)
	}
	s := &Server{
		cfg: cfg, q: cfg.Quirks, dir: cfg.Dir, poke: make(chan struct{}, 1), changed: make(chan struct{}),
		sites: map[int]*site{}, pools: map[string]*pool{}, leaving: map[*pool]struct{}{}, ports: map[endpoint]*port{}, certs: map[string]*tls.Certificate{},
		born: time.Now(), lastPID: 4000, lastRequest: 0x4000000080000000, elevation: cfg.Elevation, noMonitor: cfg.NoRequestMonitor,
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = multi.Join(fmt.Errorf("emulated IIS: %w", err), s.Close())
		}
	}()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "iistest"); err != nil {
			return nil, err
		}
		s.ownDir = true
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(s.ConfigPath()), 0o755); err != nil {
		return nil, err
	}
	_, missing := os.Stat(s.ConfigPath())
	if cfg.ApplicationHost != "" || errors.Is(missing, fs.ErrNotExist) {
		if err := os.WriteFile(s.ConfigPath(), []byte(cmp.Or(cfg.ApplicationHost, defaultApplicationHost)), 0o644); err != nil {
			return nil, err
		}
	}
	data, conf, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("%q: %w", s.ConfigPath(), err)
	}
	if err := s.newAuthority(); err != nil {
		return nil, err
	}
	for _, site := range conf.sites {
		for _, b := range site.bindings {
			if err := s.addCertificate(b); err != nil {
				return nil, err
			}
		}
	}
	s.mu.Lock()
	err = s.boot(data, conf)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.wg.Go(s.watch)
	return s, nil
}

// ConfigPath is the file applicationHost.config of the machine.
func (s *Server) ConfigPath() string { return filepath.Join(s.dir, "config", "applicationHost.config") }

// Dir is the folder that holds the machine's files.
func (s *Server) Dir() string { return s.dir }

// Close ends the machine as a power cut would and waits for all that it runs. Requests are cut; it waits for handlers of Config.Host to
// see that by their request's context. It is idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.down()
	ports := s.ports
	control := s.control
	s.mu.Unlock()
	s.stop()
	var errs []error
	if first {
		for _, p := range ports {
			errs = append(errs, p.close())
		}
		if control != nil {
			errs = append(errs, control.close())
		}
	}
	s.wg.Wait()
	if first && s.ownDir {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return multi.Join(errs...)
}

// Reboot restarts the machine: what runs is cut, worker processes and runtime states are gone, sites and pools start by their serverAutoStart
// and autoStart, and the configuration is what the file says now. Ports keep their real addresses.
func (s *Server) Reboot() error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	data, conf, err := s.read()
	if err != nil {
		return fmt.Errorf("%q: %w", s.ConfigPath(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.down()
	return s.boot(data, conf)
}

// lastAnswers is how long StopService gives answers that the worker processes have written to reach their clients, in real time.
const lastAnswers = 5 * time.Second

// StopService stops the services WAS and W3SVC: no new requests, running ones have until their pool's shutdownTimeLimit, then all is down. It
// returns when it is. Commands see states Unknown and exit 50 until StartService.
func (s *Server) StopService(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.up = false
	for _, p := range s.pools {
		s.stopPool(p)
	}
	for _, t := range s.sites {
		t.state = stopped
	}
	s.rebuild()
	s.mu.Unlock()
	err := s.await(ctx, func() bool {
		for p := range s.everyPool() {
			if p.state != stopped {
				return false
			}
		}
		return true
	})
	if err == nil { // a client that takes no answer, or never ends its upload, is not waited for
		limited, cancel := context.WithTimeout(ctx, lastAnswers)
		_ = s.await(limited, func() bool { return !s.answering() }) // down ends them
		cancel()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down()
	return err
}

// StartService starts the services again, as Reboot does after its down.
func (s *Server) StartService() error {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	if up {
		return nil
	}
	return s.Reboot()
}

// SetElevation changes how much callers of appcmd may do.
func (s *Server) SetElevation(e Elevation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elevation = e
}

// SetRequestMonitor installs or removes the feature Request Monitor.
func (s *Server) SetRequestMonitor(installed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noMonitor = !installed
}

// wake tells all that wait to look again. mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await returns nil once ok, which is called with mu held, is true; else the error of ctx, or ErrClosed.
func (s *Server) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, ch := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
}

// awaitFor is await for at most an emulated time; it tells whether ok came true.
func (s *Server) awaitFor(d time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(s.ctx, s.real(d))
	defer cancel()
	return s.await(ctx, ok) == nil
}

// real is the real time of an emulated one.
func (s *Server) real(d time.Duration) time.Duration { return time.Duration(float64(d) * s.cfg.Scale) }

// emulated is the emulated time of a real one.
func (s *Server) emulated(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.cfg.Scale)
}

// sleep waits an emulated time; false: the machine or ctx ended first.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil && s.ctx.Err() == nil
	}
	t := time.NewTimer(s.real(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}
