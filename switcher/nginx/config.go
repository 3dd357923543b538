package nginx

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Config says which nginx to steer, and which part of it is ours. Zero values mean the default named.
type Config struct {
	// Name names the site within nginx: its variables are $abswap_NAME and $abswap_NAME_mark. 1 to 32 of a-z 0-9 _, a letter first.
	// Required.
	Name string

	// Slots are the addresses of the slots by name, as nginx reaches them: "127.0.0.1:5001", "[::1]:5002". At least two, no two alike.
	// A name is of A-Z a-z 0-9 . _ - with a letter or a digit first. Addresses are numbers, since connections to them are counted. Required.
	Slots map[string]string

	// Include is the absolute path of the file that belongs to the Switcher: it is replaced as a whole. nginx.conf includes it once,
	// within http. Prepare makes it. Required.
	Include string

	// Door is the URL at the front door that answers with $abswap_NAME_mark; see Snippet. "http://127.0.0.1/.abswap-mysite". Required.
	Door string
	Host string      // Host header of requests to Door, and the server name of https; "": the URL's host
	TLS  *tls.Config // of an https Door; nil: the system's roots

	PIDFile  string   // of the master process; "": /run/nginx.pid
	Command  []string // nginx and its options, which -t, -T and -v are added to: {"sudo", "nginx", "-c", "/etc/nginx/nginx.conf"}; nil: {"nginx"}
	Reload   []string // what makes nginx load its configuration: {"systemctl", "reload", "nginx"}; nil: the signal HUP to the master process
	ErrorLog string   // where nginx says why it refuses a reload; "": the error_log of the main context, if it is a file

	// Key is what a request is drawn by while several slots have a weight: "$remote_addr" or "$cookie_id" keep a client in one slot.
	// "": $request_id, so that each request is drawn for itself.
	Key string

	// Keepalive is how many idle connections to a slot each worker process keeps open. The counts of a slot that takes work hold them too;
	// those of a slot that was turned off do not. 0: none. With it, locations need proxy_http_version 1.1 and an empty Connection header.
	Keepalive int

	Patience  time.Duration // how long nginx may take to load a configuration; 0: 20s
	Probe     time.Duration // of one request to Door; 0: 5s
	Probes    int           // right answers in a row at Door that prove a switch; 0: 5
	AcceptCut bool          // Check warns of a worker_shutdown_timeout that cuts old work, instead of refusing

	Run Runner // of Command and Reload; nil: programs of this machine
}

// Switcher steers a site of nginx. It is a Drainer too. It is safe for concurrent use; New makes it.
type Switcher struct {
	cfg   Config
	turn  chan struct{}             // holds one token: who has it may change something
	peers map[string]netip.AddrPort // slot -> address
	notes notes
}

var (
	_ abswap.WeightedSwitcher = (*Switcher)(nil)
	_ abswap.SealingSwitcher  = (*Switcher)(nil)
	_ abswap.TraitsSwitcher   = (*Switcher)(nil)
	_ abswap.Drainer          = (*Switcher)(nil)
	_ abswap.Checker          = (*Switcher)(nil)
)

var (
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	slotForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	keyForm  = regexp.MustCompile(`^[A-Za-z0-9_$.:{}-]+$`)
)

// New checks cfg and returns a Switcher, or an error with all that is wrong. It asks nobody and runs no command.
func New(cfg Config) (*Switcher, error) {
	cfg.Slots = maps.Clone(cfg.Slots)
	cfg.Command, cfg.Reload = slices.Clone(cfg.Command), slices.Clone(cfg.Reload)
	if len(cfg.Command) == 0 {
		cfg.Command = []string{"nginx"}
	}
	if cfg.PIDFile == "" {
		cfg.PIDFile = "/run/nginx.pid"
	}
	if cfg.Key == "" {
		cfg.Key = "$request_id"
	}
	if cfg.Probes == 0 {
		cfg.Probes = 5
	}
	if cfg.Run == nil {
		cfg.Run = runProgram
	}
	s := &Switcher{cfg: cfg, turn: make(chan struct{}, 1), peers: map[string]netip.AddrPort{}}
	s.turn <- struct{}{}
	errs := cfg.mistakes()
	for name, addr := range cfg.Slots {
		peer, err := parsePeer(addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("slot %q: %w", name, err))
		}
		for other, p := range s.peers {
			if p == peer && err == nil {
				errs = append(errs, fmt.Errorf("slots %q and %q have one address, %s", min(name, other), max(name, other), peer))
			}
		}
		s.peers[name] = peer
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("nginx: %w", err)
	}
	s.cfg.Patience = orDefault(cfg.Patience, 20*time.Second)
	s.cfg.Probe = orDefault(cfg.Probe, 5*time.Second)
	return s, nil
}

// mistakes finds what is wrong beside the addresses.
func (c *Config) mistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !nameForm.MatchString(c.Name) {
		add("Name %q is not 1 to 32 of a-z 0-9 _ with a letter first", c.Name)
	}
	if len(c.Slots) < 2 {
		add("Slots has %d slots, at least two are needed", len(c.Slots))
	}
	for name := range c.Slots {
		if !slotForm.MatchString(name) {
			add("slot %q: a name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or a digit", name)
		}
	}
	if !filepath.IsAbs(c.Include) {
		add("Include %q is not an absolute path", c.Include)
	}
	if u, err := url.Parse(c.Door); err != nil {
		add("Door: %w", err)
	} else if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		add("Door %q is not of the form http://host:port/path", c.Door)
	}
	if !keyForm.MatchString(c.Key) {
		add("Key %q: it is made of variables, such as $remote_addr", c.Key)
	}
	if c.Keepalive < 0 || c.Probes < 0 || c.Patience < 0 || c.Probe < 0 {
		add("Keepalive %d, Probes %d, Patience %s, Probe %s: none may be negative", c.Keepalive, c.Probes, c.Patience, c.Probe)
	}
	for _, command := range [][]string{c.Command, c.Reload} {
		if len(command) > 0 && command[0] == "" {
			add("command %q has no program", command)
		}
	}
	return errs
}

// parsePeer reads the address of a slot.
func parsePeer(addr string) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil:
		return p, fmt.Errorf("address %q is not of the form 127.0.0.1:5001: %w", addr, err)
	case p.Port() == 0 || p.Addr().IsUnspecified() || p.Addr().Zone() != "":
		return p, fmt.Errorf("address %q cannot be connected to", addr)
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}

// Snippet returns what nginx.conf needs for the site to be steered, to be put there by hand once.
func (s *Switcher) Snippet() string {
	path := "/"
	if u, err := url.Parse(s.cfg.Door); err == nil && u.Path != "" {
		path = u.Path
	}
	v := "$" + s.variable()
	return strings.Join([]string{
		"# within http { }, once:",
		"include " + s.cfg.Include + ";",
		"",
		"# within the site's server { }; which slot answers is no secret, but need not be told to everybody either:",
		"location = " + path + " { default_type text/plain; return 200 " + v + "_mark; }",
		"",
		"# in each location that leads to the application, in place of its address:",
		"proxy_pass http://" + v + ";",
		"proxy_set_header Host $host;",
		"proxy_http_version 1.1;",
		"",
	}, "\n")
}

// variable is the one that proxy_pass uses, without $.
func (s *Switcher) variable() string { return "abswap_" + s.cfg.Name }

// upstream names the upstream group of a slot.
func (s *Switcher) upstream(slot string) string { return s.variable() + "_" + slot }

// nowhere names the upstream group that requests are led to while no slot gets any; it refuses them.
func nowhere(variable string) string { return variable + "-none" }

// known refuses a slot that the Switcher has not.
func (s *Switcher) known(slot abswap.Slot) error {
	if slot == nil {
		return errors.New("nginx: the slot is nil")
	}
	if _, ok := s.peers[slot.Name()]; !ok {
		return fmt.Errorf("nginx: slot %q is not one of %q: %w", slot.Name(), slices.Sorted(maps.Keys(s.peers)), abswap.ErrUnknownSlot)
	}
	return nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
