package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{8}$`)

// include is the content of the file that belongs to the Switcher.
type include struct {
	name      string
	gen       int64
	weights   map[string]int    // of all slots
	slots     map[string]string // addresses
	key       string
	keepalive int
	earlier   []generation // worker processes that ran when the file was written
}

// generation is a worker process and the slots that its configuration leads to.
type generation struct {
	worker
	slots []string // nil: not known, so any
}

const heading = `# Written by abswap, which replaces this file as a whole at each switch of site %q. Whoever moves traffic by hand changes the
# split_clients block and reloads nginx; the Switcher notices it.
`

// render returns the file's text.
func (in include) render() string {
	var b strings.Builder
	fmt.Fprintf(&b, heading, in.name)
	for _, g := range in.earlier {
		slots := "*"
		if g.slots != nil {
			slots = cmp.Or(strings.Join(g.slots, ","), "-")
		}
		fmt.Fprintf(&b, "# worker %d %d %s\n", g.pid, g.start, slots)
	}
	b.WriteString(in.body())
	v := "abswap_" + in.name
	fmt.Fprintf(&b, "map $%s $%s_mark { default %q; }\n", v, v, in.mark().String()+" $"+v)
	return b.String()
}

// body is the part that leads requests.
func (in include) body() string {
	var b strings.Builder
	v := "abswap_" + in.name
	names := slices.Sorted(maps.Keys(in.slots))
	for _, slot := range names {
		keepalive := ""
		if in.keepalive > 0 {
			keepalive = fmt.Sprintf(" keepalive %d;", in.keepalive)
		}
		fmt.Fprintf(&b, "upstream %s_%s { server %s;%s }\n", v, slot, in.slots[slot], keepalive)
	}
	var on []string
	for _, slot := range names {
		if in.weights[slot] > 0 {
			on = append(on, slot)
		}
	}
	if len(on) == 0 {
		fmt.Fprintf(&b, "upstream %s { server 127.0.0.1:9 down; }\n", nowhere(v))
	}
	fmt.Fprintf(&b, "split_clients %q $%s {\n", in.key, v)
	if len(on) == 0 {
		fmt.Fprintf(&b, "    * %s;\n", nowhere(v))
	}
	for i, slot := range on {
		part := strconv.Itoa(in.weights[slot]) + "%"
		if i == len(on)-1 {
			part = "*"
		}
		fmt.Fprintf(&b, "    %s %s_%s;\n", part, v, slot)
	}
	b.WriteString("}\n")
	return b.String()
}

// mark is what the front door answers once the file is loaded, without the route.
func (in include) mark() Mark {
	sum := sha256.Sum256([]byte(in.body()))
	return Mark{Name: in.name, Generation: in.gen, Digest: hex.EncodeToString(sum[:4]), Weights: in.weights}
}

// found is the file as it was found.
type found struct {
	in      include
	edited  bool   // it is not as render wrote it
	mark    Mark   // what the front door answers once it is loaded
	trouble string // edited: why in.weights is not known; "": it is
}

// parseInclude reads the file of the site. A file that was changed by hand is read as nginx does, and found.edited is set.
func parseInclude(name, text string) (found, error) {
	conf, err := parseConf("include", text)
	if err != nil {
		return found{}, err
	}
	v := "abswap_" + name
	f := found{in: include{name: name, slots: map[string]string{}, weights: map[string]int{}}}
	var split *directive
	for i, d := range conf {
		switch {
		case d.name == "upstream" && len(d.args) == 1 && strings.HasPrefix(d.args[0], v+"_"):
			slot := strings.TrimPrefix(d.args[0], v+"_")
			for _, x := range d.block {
				switch {
				case x.name == "server" && len(x.args) > 0 && f.in.slots[slot] == "":
					f.in.slots[slot] = x.args[0]
				case x.name == "keepalive" && len(x.args) == 1:
					f.in.keepalive, _ = strconv.Atoi(x.args[0])
				}
			}
		case d.name == "split_clients" && len(d.args) == 2 && d.args[1] == "$"+v:
			split, f.in.key = &conf[i], d.args[0]
		case d.name == "map" && len(d.args) == 2 && d.args[1] == "$"+v+"_mark" && len(d.block) == 1 && len(d.block[0].args) == 1:
			text, _ := strings.CutSuffix(d.block[0].args[0], " $"+v)
			if f.mark, err = ParseMark(text); err != nil {
				return found{}, err
			}
		}
	}
	if f.mark.Name != name {
		return found{}, fmt.Errorf("it has no mark of site %q", name)
	}
	f.in.gen, f.in.earlier = f.mark.Generation, parseEarlier(text)
	f.trouble = f.in.share(split, v)
	if f.edited = f.in.render() != text; !f.edited {
		f.trouble = ""
	}
	return f, nil
}

// share takes the weights out of the split_clients block, and says what it cannot make out of it.
func (in *include) share(split *directive, v string) string {
	if split == nil {
		return "there is no split_clients for $" + v
	}
	left := 100
	for slot := range in.slots {
		in.weights[slot] = 0
	}
	for i, d := range split.block {
		if len(d.args) != 1 {
			return fmt.Sprintf("line %d is not a part of a split", d.line)
		}
		slot, ok := strings.CutPrefix(d.args[0], v+"_")
		_, has := in.slots[slot]
		if none := d.args[0] == nowhere(v); none || !ok || !has {
			if none && d.name == "*" && i == 0 && len(split.block) == 1 {
				return ""
			}
			return fmt.Sprintf("%q is not the upstream group of a slot", d.args[0])
		}
		part := left
		if d.name != "*" {
			f, err := strconv.ParseFloat(strings.TrimSuffix(d.name, "%"), 64)
			if err != nil || f < 0 || f > float64(left) {
				return fmt.Sprintf("%q is not a part of a split", d.name)
			}
			part = int(f + 0.5)
		} else if i != len(split.block)-1 {
			return "there is something after *"
		}
		in.weights[slot] += part
		left -= part
	}
	if left != 0 {
		return fmt.Sprintf("%d %% lead nowhere", left)
	}
	return ""
}

// parseEarlier reads the comments about worker processes, and leaves out what it does not understand: such a worker counts as not known.
func parseEarlier(text string) []generation {
	var all []generation
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] != "#" || f[1] != "worker" {
			continue
		}
		pid, err := strconv.Atoi(f[2])
		start, serr := strconv.ParseUint(f[3], 10, 64)
		if err != nil || serr != nil || pid <= 0 {
			continue
		}
		g := generation{worker: worker{pid: pid, start: start}}
		switch f[4] {
		case "*":
		case "-":
			g.slots = []string{}
		default:
			g.slots = strings.Split(f[4], ",")
		}
		all = append(all, g)
	}
	return all
}

// byAddress turns weights by upstream group into weights by the slot that has the group's address.
func (in include) byAddress(peers map[string]netip.AddrPort) (map[string]int, error) {
	weights := map[string]int{}
	var errs []error
	for name, part := range in.weights {
		if part == 0 {
			continue
		}
		addr, err := parsePeer(in.slots[name])
		hit := ""
		for slot, peer := range peers {
			if err == nil && peer == addr {
				hit = slot
			}
		}
		if hit == "" {
			errs = append(errs, fmt.Errorf("%d %% go to %q, which is the address of no slot", part, in.slots[name]))
			continue
		}
		weights[hit] += part
	}
	return weights, errors.Join(errs...)
}
