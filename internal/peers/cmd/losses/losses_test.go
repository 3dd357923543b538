package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestNothingIsLost is the table of our own front doors, with 20 switches: 0 in every column.
func TestNothingIsLost(t *testing.T) {
	o := options{switches: 20, every: 500 * time.Millisecond, pause: 2 * time.Millisecond}
	if testing.Short() {
		o.switches, o.every = 8, 300*time.Millisecond
	}
	t.Log("\n" + tableHead)
	for _, r := range rows {
		if !r.ours {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			res, err := measure(r, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Log("\n" + res.row(r.title))
			if res.lost() > 0 {
				t.Error(res.samples)
			}
			if res.posts < int64(20*o.switches) || res.uploads < uploaders {
				t.Error("there was hardly any load")
			}
		})
	}
}

// TestTheTableSeesLosses runs it on a front door that is known to lose: nginx, which is reloaded to switch.
func TestTheTableSeesLosses(t *testing.T) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(err)
	}
	for _, r := range rows {
		if r.name == "nginx" {
			res, err := measure(r, options{switches: 5, every: 300 * time.Millisecond, pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			t.Log("\n" + tableHead + res.row(r.title))
			if res.late == 0 {
				t.Error("a reload is in force some time after it has returned")
			}
		}
	}
}
