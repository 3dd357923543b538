package nginx

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// notes are what a Switcher has seen. They sharpen counts; nothing rests on them alone.
type notes struct {
	mu        sync.Mutex
	workers   []generation // alive when last seen
	log       string       // error log of the main context
	learned   bool         // the configuration was read
	multiplex bool         // a client's connection may have more than one to slots
	unseen    bool         // clients may come over what is not TCP
}

// see notes which slots the workers of w lead to, as far as it can be told, and forgets those that have ended.
func (n *notes) see(w world) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []generation
	for _, x := range w.workers {
		g := generation{worker: x}
		switch slots, known := n.find(x); {
		case known:
			g.slots = slots
		case w.said(x) != nil:
			g.slots = w.said(x)
		case !x.quitting && !w.pending && !w.file.edited:
			g.slots = w.mark.leads()
		}
		if g.slots != nil {
			all = append(all, g)
		}
	}
	n.workers = all
}

// said is what the file says of the worker.
func (w *world) said(x worker) []string {
	for _, g := range w.file.in.earlier {
		if g.is(x) {
			return g.slots
		}
	}
	return nil
}

// mark notes the workers that have come with a switch. (Those that were there are noted.)
func (n *notes) mark(w world, m Mark) {
	now, err := workersOf(w.master)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range now {
		if _, known := n.find(x); !known && !x.quitting && !holds(w.workers, x) {
			n.workers = append(n.workers, generation{worker: x, slots: m.leads()})
		}
	}
}

func (n *notes) find(x worker) ([]string, bool) {
	for _, g := range n.workers {
		if g.is(x) {
			return g.slots, true
		}
	}
	return nil, false
}

// leads lists the slots that the worker's configuration leads to; nil: not known, so any.
func (n *notes) leads(x worker) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slots, _ := n.find(x)
	return slots
}

// learn notes what of the configuration matters to counts and messages. What was so once stays so: old workers may have it.
func (n *notes) learn(tree []directive) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.learned = true
	walk(tree, func(d directive, within []directive) {
		n.multiplex = n.multiplex || multiplexes(d)
		n.unseen = n.unseen || unseen(d)
		if d.name == "error_log" && len(within) == 0 && len(d.args) > 0 && filepath.IsAbs(d.args[0]) {
			n.log = d.args[0]
		}
	})
}

// multiplexes tells whether, by the directive, one connection of a client may stand for several requests at a time, or for several
// connections to upstream groups.
func multiplexes(d directive) bool {
	switch d.name {
	case "listen":
		return slices.Contains(d.args, "http2") || slices.Contains(d.args, "spdy")
	case "http2", "ssi":
		return len(d.args) == 1 && d.args[0] == "on"
	case "auth_request", "mirror":
		return len(d.args) == 1 && d.args[0] != "off"
	case "slice", "add_before_body", "add_after_body":
		return true
	}
	return false
}

// unseen tells whether, by the directive, clients may come over what is not in the table of TCP sockets.
func unseen(d directive) bool {
	return d.name == "listen" && len(d.args) > 0 && (strings.HasPrefix(d.args[0], "unix:") || slices.Contains(d.args, "quic"))
}

// knows tells whether the configuration was read, whether it multiplexes, and whether it has clients that cannot be seen.
func (n *notes) knows() (learned, multiplex, unseen bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.learned, n.multiplex, n.unseen
}

// errorLog is the configured log, or the one that nginx writes.
func (n *notes) errorLog(configured string) string {
	if configured != "" {
		return configured
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log
}
