package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/abswap/abswap"
)

// InFlight counts what nginx has open to the slot: each connection of a worker process to its address is a request, or an upgraded
// connection, which cannot be told apart, so that all are Requests. Old workers, whose configuration leads to the slot, count also
// for each client's connection that has no counterpart yet: an upload that nginx reads to its end first, a connection over which the
// request is still to come. The evidence is approximate.
//
// Where the sockets of the workers may not be looked at, which needs root or the workers' user, all connections to the slot's address of
// that user count, and an old worker counts as one as long as it lives.
func (s *Switcher) InFlight(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, err
	}
	if err := s.known(slot); err != nil {
		return abswap.Load{}, err
	}
	if err := supported(); err != nil {
		return abswap.Load{}, err
	}
	if learned, _, _ := s.notes.knows(); !learned {
		if _, err := s.test(ctx); err != nil {
			if ctx.Err() != nil {
				return abswap.Load{}, ctx.Err()
			}
			return abswap.Load{}, fmt.Errorf("nginx: what is in flight in slot %q: %w", slot.Name(), err)
		}
	}
	load, _, err := s.count(slot.Name())
	if err != nil {
		return abswap.Load{}, fmt.Errorf("nginx: what is in flight in slot %q: %w", slot.Name(), err)
	}
	return load, nil
}

// count reads the sockets of all workers. coming is the part of the count that the slot may not have seen yet.
func (s *Switcher) count(slot string) (load abswap.Load, coming int, err error) {
	master, err := s.master()
	if err != nil {
		return abswap.Load{}, 0, err
	}
	workers, err := workersOf(master)
	if err != nil {
		return abswap.Load{}, 0, err
	}
	if len(workers) == 0 {
		return abswap.Load{}, 0, fmt.Errorf("%w: process %d has no worker process", ErrNotRunning, master)
	}
	var file world
	if err := s.readFile(&file); err != nil {
		return abswap.Load{}, 0, err
	}
	table, err := tableOf(master)
	if err != nil {
		return abswap.Load{}, 0, err
	}
	load = abswap.Load{Evidence: abswap.EvidenceApproximate, Source: "sockets of nginx"}
	blind := map[uint32]bool{} // users of workers that we may not look into
	for _, x := range workers {
		own, err := socketsOf(x.pid)
		switch {
		case gone(err):
			continue // it has ended
		case errors.Is(err, fs.ErrPermission):
			user, err := userOf(x.pid)
			if err != nil {
				continue
			}
			blind[user] = true
			if x.quitting && s.mayLead(&file, x, slot) {
				load.Requests++
				coming++
			}
			continue
		case err != nil:
			return abswap.Load{}, 0, err
		}
		there, more := s.countIn(sortSockets(table, own), slot, x.quitting && s.mayLead(&file, x, slot))
		load.Requests += there + more
		coming += more
	}
	if len(blind) == 0 {
		return load, coming, nil
	}
	load.Source = "sockets of nginx's user, and old worker processes"
	for _, t := range table {
		if t.open() && t.inode != 0 && blind[t.user] && t.remote == s.peers[slot] {
			load.Requests++
		}
	}
	return load, coming, nil
}

// mayLead tells whether the worker's configuration leads to the slot, or may.
func (s *Switcher) mayLead(file *world, x worker, slot string) bool {
	leads := s.notes.leads(x)
	if leads == nil {
		leads = file.said(x)
	}
	return leads == nil || slices.Contains(leads, slot)
}

// held are the connections of one worker.
type held struct {
	clients   int
	upstreams []socket
}

// sortSockets tells the connections of clients from those to upstream servers: a client's is at a port that somebody listens at.
func sortSockets(table []socket, own map[uint64]bool) held {
	ports := map[uint16]bool{}
	for _, t := range table {
		if t.state == stateListen {
			ports[t.local.Port()] = true
		}
	}
	var h held
	for _, t := range table {
		switch {
		case !own[t.inode] || t.inode == 0 || t.state == stateListen:
		case ports[t.local.Port()]:
			h.clients++
		default:
			h.upstreams = append(h.upstreams, t)
		}
	}
	return h
}

// countIn counts what one worker has in the slot, and if it is an old one that leads there, what may still come to it.
func (s *Switcher) countIn(h held, slot string, old bool) (there, coming int) {
	for _, t := range h.upstreams {
		if t.remote == s.peers[slot] {
			there++
		}
	}
	if !old {
		return there, 0
	}
	coming = max(0, h.clients-len(h.upstreams))
	if _, multiplex, unseen := s.notes.knows(); there+coming == 0 && (multiplex && h.clients > 0 || unseen) {
		coming = 1 // another client's second connection may hide one that is still to come
	}
	return there, coming
}
