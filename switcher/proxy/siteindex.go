package proxy

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

// siteIndex finds a site by its host: by two atomic loads, however many there are, without a lock and without an allocation. A change costs as
// much as a look, but for one in which the table becomes twice as large. Changes come one at a time.
type siteIndex struct {
	seed  maphash.Seed
	table atomic.Pointer[siteTable]
	other atomic.Pointer[Switcher] // of "*"
	wild  atomic.Int64             // how many names begin with "*."
	count int                      // names in table
}

// siteTable has a chain of names for each remainder of their hash. It is replaced when it becomes too small.
type siteTable struct{ heads []atomic.Pointer[siteNode] } // a power of two

// siteNode is never changed once it can be reached.
type siteNode struct {
	hash uint64
	name string
	site *Switcher
	next *siteNode
}

const leastSites = 8

func newSiteIndex() *siteIndex {
	x := &siteIndex{seed: maphash.MakeSeed()}
	x.table.Store(&siteTable{make([]atomic.Pointer[siteNode], leastSites)})
	return x
}

func (t *siteTable) head(hash uint64) *atomic.Pointer[siteNode] {
	return &t.heads[hash&uint64(len(t.heads)-1)]
}

// find returns the site of that host: the one that has it by name, else the one whose wildcard covers it, else the one for all others; nil if
// there is none.
func (x *siteIndex) find(host string) *Switcher {
	var buf [maxHost + 1]byte
	key := hostKey((*[maxHost]byte)(buf[1:]), host)
	if len(key) > 0 {
		if s := x.get(key); s != nil {
			return s
		}
		if x.wild.Load() > 0 && key[0] != '[' {
			if i := bytes.IndexByte(key, '.'); i > 0 { // "*" takes the place of the byte before the dot
				buf[i] = '*'
				if s := x.get(buf[i : 1+len(key)]); s != nil {
					return s
				}
			}
		}
	}
	return x.other.Load()
}

func (x *siteIndex) get(key []byte) *Switcher {
	hash := maphash.Bytes(x.seed, key)
	for n := x.table.Load().head(hash).Load(); n != nil; n = n.next {
		if n.hash == hash && n.name == string(key) {
			return n.site
		}
	}
	return nil
}

// of returns the site that has that name, as siteName writes it.
func (x *siteIndex) of(name string) *Switcher {
	if name == "*" {
		return x.other.Load()
	}
	return x.get([]byte(name))
}

// set lets name lead to site, or, if that is nil, nowhere.
func (x *siteIndex) set(name string, site *Switcher) {
	if name == "*" {
		x.other.Store(site)
		return
	}
	hash := maphash.String(x.seed, name)
	t := x.table.Load()
	head := t.head(hash)
	rest, had := head.Load().without(name)
	if site != nil {
		rest = &siteNode{hash, name, site, rest}
	}
	by := 0
	switch {
	case site != nil && !had:
		by = 1
	case site == nil && had:
		by = -1
	}
	if name[0] == '*' && by > 0 {
		x.wild.Add(1)
	}
	head.Store(rest)
	if name[0] == '*' && by < 0 {
		x.wild.Add(-1)
	}
	if x.count += by; x.count > len(t.heads) {
		x.grow(t)
	}
}

// without returns the chain without that name, as a copy where it has to change.
func (n *siteNode) without(name string) (rest *siteNode, had bool) {
	if n == nil {
		return nil, false
	}
	if n.name == name {
		return n.next, true
	}
	next, had := n.next.without(name)
	if !had {
		return n, false
	}
	return &siteNode{n.hash, n.name, n.site, next}, true
}

func (x *siteIndex) grow(old *siteTable) {
	t := &siteTable{make([]atomic.Pointer[siteNode], 2*len(old.heads))}
	for i := range old.heads {
		for n := old.heads[i].Load(); n != nil; n = n.next {
			head := t.head(n.hash)
			head.Store(&siteNode{n.hash, n.name, n.site, head.Load()})
		}
	}
	x.table.Store(t)
}

// each calls f for each name and its site.
func (x *siteIndex) each(f func(name string, site *Switcher) bool) {
	if s := x.other.Load(); s != nil && !f("*", s) {
		return
	}
	t := x.table.Load()
	for i := range t.heads {
		for n := t.heads[i].Load(); n != nil; n = n.next {
			if !f(n.name, n.site) {
				return
			}
		}
	}
}
