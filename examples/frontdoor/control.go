package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/abswap/abswap/switcher/proxy"
)

// slot is a name to the proxy. Whether its application is fit is for a deploy tool to ask; see abswap.HTTPSlot.
type slot string

func (s slot) Name() string { return string(s) }

func (s slot) Ready(context.Context) error { return nil }

// controls is what the admin address answers.
func (d *door) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /swap", func(w http.ResponseWriter, r *http.Request) {
		s, ok := d.meant(w, r)
		if !ok {
			return
		}
		to := r.FormValue("to")
		if to != "A" && to != "B" {
			http.Error(w, "to must be A or B", http.StatusBadRequest)
			return
		}
		if err := s.Activate(r.Context(), slot(to)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, to)
	})
	mux.HandleFunc("GET /inflight", func(w http.ResponseWriter, r *http.Request) {
		s, ok := d.meant(w, r)
		if !ok {
			return
		}
		var out struct{ A, B int }
		for name, n := range map[string]*int{"A": &out.A, "B": &out.B} {
			load, err := s.InFlight(r.Context(), slot(name))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			*n = load.Requests + load.Upgraded
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	})
	return mux
}

// meant returns the proxy of the site that the request names by host=, or the one for all other hosts. If there is no such site it answers.
func (d *door) meant(w http.ResponseWriter, r *http.Request) (*proxy.Switcher, bool) {
	others, _ := d.sites.Lookup("")
	host := r.FormValue("host")
	if host == "" {
		return others, true
	}
	s, _ := d.sites.Lookup(host)
	if s == others {
		http.Error(w, fmt.Sprintf("no site %q", host), http.StatusNotFound)
		return nil, false
	}
	return s, true
}
