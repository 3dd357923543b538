package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/evidence"
	"github.com/abswap/abswap/switcher/haproxy"
)

// floor is how many members serve at every instant.
const floor = 3

// site is what the tool has to know of the fleet. In earnest it is a configuration file.
type site struct {
	Nodes     []nodeAddress `json:"nodes"`
	Balancers []door        `json:"balancers"`
}

// door is one HAProxy.
type door struct {
	Name      string `json:"name"`
	Master    string `json:"master"`    // socket of the master process
	StateFile string `json:"stateFile"` // from which it loads the states of its servers
}

// journalOpener opens the journal that a roll writes.
type journalOpener func(dir string) (abswap.Journal, error)

func openJournal(dir string) (abswap.Journal, error) {
	return abswap.OpenJournal(dir, abswap.JournalOptions{})
}

// rolling is all of the SDK that a roll behind two HAProxys needs.
func rolling(dir string, open journalOpener, out io.Writer) (*abswap.Rolling, error) {
	text, err := os.ReadFile(filepath.Join(dir, "site.json"))
	if err != nil {
		return nil, err
	}
	var s site
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("site.json: %w", err)
	}
	cfg := haproxy.FleetConfig{Backend: "be_shop", Members: map[string][]string{}}
	for _, b := range s.Balancers {
		cfg.Doors = append(cfg.Doors, haproxy.Door{Name: b.Name, Runtime: haproxy.Runtime{Master: b.Master}, StateFile: b.StateFile})
	}
	counts := &evidence.HTTPDrainer{URLs: map[string]string{}}
	var members []abswap.Slot
	for _, n := range s.Nodes {
		cfg.Members[n.Name] = []string{n.Name} // the servers have the members' names
		counts.URLs[n.Name] = "http://" + n.Agent + "/in-flight"
		members = append(members, newMember(n))
	}
	doors, err := haproxy.NewFleet(cfg)
	if err != nil {
		return nil, err
	}
	journal, err := open(filepath.Join(dir, "journal"))
	if err != nil {
		return nil, err
	}
	return &abswap.Rolling{
		Switcher: doors,
		// Both HAProxys count, and so does the application: a member is idle when all say so.
		Drainer:    abswap.Both(doors, counts),
		Slots:      members,
		Journal:    journal,
		MinServing: floor,
		// All that follows is short, since this is a show.
		Bake:     300 * time.Millisecond,
		Soak:     100 * time.Millisecond,
		Drain:    abswap.DrainOptions{Timeout: time.Minute, Quiet: 100 * time.Millisecond, Poll: 20 * time.Millisecond},
		Timeouts: abswap.Timeouts{Settle: 300 * time.Millisecond},
		OnEvent: func(e abswap.Event) {
			switch {
			case e.Kind == abswap.EventPhase && e.Phase == abswap.MemberTakingOut:
				fmt.Fprintf(out, "  %s is taken out\n", e.Slot)
			case e.Kind == abswap.EventDone && e.Phase == abswap.MemberPuttingIn && e.Err == nil:
				fmt.Fprintf(out, "  %s is in service again, with %s\n", e.Slot, e.Release)
			case e.Kind == abswap.EventDone && e.Err != nil:
				fmt.Fprintf(out, "  %s: %s: %v\n", e.Slot, e.Phase, e.Err)
			}
		},
	}, nil
}

// tool is one run of the deploy tool.
func tool(ctx context.Context, args []string, out io.Writer, open journalOpener) error {
	verb, dir := args[0], args[1]
	o, err := rolling(dir, open, out)
	if err != nil {
		return err
	}
	var rep abswap.RollReport
	switch {
	case verb == "status":
		return status(ctx, o, out)
	case verb == "resume":
		rep, err = o.Resume(ctx)
	case len(args) > 2:
		rel := abswap.Release{ID: args[2], Meta: map[string]string{}}
		if len(args) > 3 {
			rel.Meta["bad-on"] = args[3]
		}
		if o.Back, err = serving(ctx, o); err != nil {
			return err
		}
		o.TakeBack = o.Back.ID == "" // the first release goes into a fleet that is down
		rep, err = o.Deploy(ctx, rel)
	default:
		return errors.New("roll needs a release")
	}
	for _, m := range rep.Members {
		fmt.Fprintf(out, "  report: %s %s, %s -> %s\n", m.Name, m.State, cmp.Or(m.Before, "nothing"), cmp.Or(m.After, "?"))
	}
	fmt.Fprintf(out, "  report: %s, %d members serve\n", rep.Outcome, rep.Serving)
	return err
}

// serving is the release that all members in service have: there is a way back to it. None if they have several.
func serving(ctx context.Context, o *abswap.Rolling) (abswap.Release, error) {
	st, err := o.Status(ctx)
	if err != nil {
		return abswap.Release{}, err
	}
	var ids []string
	for _, m := range st.Members {
		if m.In && !slices.Contains(ids, m.State.Release) {
			ids = append(ids, m.State.Release)
		}
	}
	if len(ids) != 1 {
		return abswap.Release{}, nil
	}
	return abswap.Release{ID: ids[0]}, nil
}

func status(ctx context.Context, o *abswap.Rolling, out io.Writer) error {
	st, err := o.Status(ctx)
	if err != nil {
		return err
	}
	for _, m := range st.Members {
		where := "in service"
		if !m.Serves() {
			where = "not in service: " + m.Note
		}
		fmt.Fprintf(out, "%s %s %s\n", m.Name, m.State.Release, where)
	}
	if len(st.Problems) > 0 {
		return errors.New(strings.Join(st.Problems, "; "))
	}
	return nil
}
