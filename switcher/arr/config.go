package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// Config says which farm is steered, and how. What is required comes first; any other zero value is useful.
type Config struct {
	Farm string // name of the web farm; required
	Pool string // application pool of the site whose rewrite rule feeds the farm: ARR's own; required

	// Slots are the members of the farm, by slot name: each has one address or more, as the farm names them. At least two; required. Two slots on
	// one machine need two addresses: names of the hosts file, or 127.0.0.1 and 127.0.0.2.
	Slots map[string][]string

	// KeepSessions makes Activate and SetWeights leave clients that have a member's affinity cookie with it (Drain), instead of sending them to
	// the new slot with their next request (GracefulStop). See Sessions. Seal always ends that.
	KeepSessions bool

	// Ask asks the front door, as a client does, which slot answers. With it Activate returns when the new slot has answered Asks times running.
	// nil: what ARR says of itself is taken.
	Ask  func(ctx context.Context) (slot string, err error)
	Asks int // 0: 10

	// Inside counts what the members themselves have in work, by slot name: an iis.Drainer, where the slots are on this machine. It goes beside
	// ARR's counters, and knows what they lost in a reset. nil: the requests that ARR's own pool executes are looked at instead.
	Inside abswap.Drainer

	// Memory is the file in which the states that are wanted are kept, so that a Keeper, also one in another process, can bring them about
	// again after ARR has forgotten them. All that steer one farm use the same file. "": in memory, of this Switcher.
	Memory string

	Patience time.Duration // how long a member may take to be healthy, and a state to be read back; 0: 60s
	Poll     time.Duration // between two readings; 0: 200ms
	Settle   time.Duration // how long ARR may take to follow a commit, or to test members in a new process: the interval of the health test; 0: 5s
	Grace    time.Duration // how long Active and Weights give a Keeper when ARR has forgotten the states; 0: 3s, negative: none

	Facts  Facts  // what was found out about this very server
	Accept Accept // losses that Check refuses otherwise

	Appcmd   string        // path of appcmd.exe; "": where Windows has it
	Runner   Runner        // runs appcmd; nil: Appcmd is run
	LockFile string        // one command at a time per machine: all that steer one IIS use the same file; "": the machine's
	RetryFor time.Duration // how long a command is tried again while another program writes the configuration; 0: 30s

	PowerShell string        // path of powershell.exe; "": the Windows PowerShell of this machine
	Caller     Caller        // makes the runtime calls; nil: the script in PowerShell
	Timeout    time.Duration // of one runtime call; 0: 30s

	OnCall    func(call string, took time.Duration, err error)    // told of each runtime call; nil: nobody
	OnCommand func(command string, took time.Duration, err error) // told of each command; nil: nobody
}

// Runner runs appcmd once, or what stands for it. It returns when the command has ended: what was printed, and the exit code, whatever that
// is. If ctx ends first it ends the command for certain, waits until it has gone, and returns an error that wraps ctx's.
type Runner interface {
	Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error)
}

// Accept names losses that the caller is ready to bear. Check names each of them where it would refuse.
type Accept struct {
	RestartsMembers bool // a change of weights restarts the ASP.NET Core applications of the members
	Mortal          bool // ARR's pool is recycled by itself now and then, and its states are lost until a Keeper has seen it
}

// Fact is what was found out about a server. The zero value says that nobody has looked.
type Fact int

// The values of a Fact.
const (
	NotKnown Fact = iota
	Yes
	No
)

// Facts are what documentation leaves open about ARR and the members, or what differs from machine to machine. Check takes the worse case for
// each that is NotKnown.
type Facts struct {
	// CommitRestartsMembers: a commit to the farm restarts the members' applications. It is so for ASP.NET Core applications on this machine
	// without disallowRotationOnConfigChange among their handlerSettings (confirmed in the framework's issues), and not for others, nor for
	// members on other machines.
	CommitRestartsMembers Fact
	// CommitForgetsStates: a commit to the farm makes ARR forget the states of members. SetWeights then restores them, after a moment.
	CommitForgetsStates Fact
}

func (f Facts) assume() Facts {
	if f.CommitRestartsMembers == NotKnown {
		f.CommitRestartsMembers = Yes
	}
	if f.CommitForgetsStates == NotKnown {
		f.CommitForgetsStates = No // nobody has reported it
	}
	return f
}

func (c Config) withDefaults() Config {
	if c.Asks <= 0 {
		c.Asks = 10
	}
	for _, d := range []struct {
		at   *time.Duration
		zero time.Duration
	}{{&c.Patience, time.Minute}, {&c.Poll, 200 * time.Millisecond}, {&c.Settle, 5 * time.Second}, {&c.Grace, 3 * time.Second},
		{&c.Timeout, 30 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.zero
		}
	}
	return c
}

// check returns all mistakes in c.
func (c Config) check() error {
	errs := []error{checkName("Farm", c.Farm), appcmd.CheckPoolName(c.Pool)}
	if len(c.Slots) < 2 {
		errs = append(errs, fmt.Errorf("it has %d Slots, at least two are needed", len(c.Slots)))
	}
	owner := map[string]string{}
	for _, name := range c.slotNames() {
		if name == "" {
			errs = append(errs, errors.New("a slot has no name"))
		}
		if len(c.Slots[name]) == 0 {
			errs = append(errs, fmt.Errorf("slot %q has no members", name))
		}
		for _, address := range c.Slots[name] {
			errs = append(errs, checkName(fmt.Sprintf("slot %q: member", name), address))
			key := strings.ToLower(address)
			if other, ok := owner[key]; ok {
				errs = append(errs, fmt.Errorf("member %q is in slot %q and in slot %q: a farm has each address once", address, other, name))
			}
			owner[key] = name
		}
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Patience", c.Patience}, {"Poll", c.Poll}, {"Settle", c.Settle}, {"Timeout", c.Timeout}, {"RetryFor", c.RetryFor}} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s is %s", d.name, d.d))
		}
	}
	return multi.Join(errs...)
}

// checkName refuses what cannot be the name of a farm or an address in it, and what no command can carry.
func checkName(what, name string) error {
	switch {
	case strings.TrimSpace(name) == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("%s %q is empty, or has blanks around it", what, name)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s %q has characters that cannot be printed", what, name)
	case strings.ContainsAny(name, `'"`):
		return fmt.Errorf("%s %q: a quote cannot be written in a command", what, name)
	}
	return nil
}

// slotNames are the slots in a fixed order.
func (c Config) slotNames() []string {
	names := make([]string, 0, len(c.Slots))
	for name := range c.Slots {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
