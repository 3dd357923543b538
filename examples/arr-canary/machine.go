package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/examples/internal/arrdemo"
	"github.com/abswap/abswap/switcher/arr"
)

// badRelease fails every fourth request.
const badRelease = "v3-bad"

// newMachine starts an emulated machine and sets o to it.
func newMachine(o *options) (*arrdemo.Machine, error) {
	m, err := arrdemo.New(arrdemo.Spec{Name: "arr-canary", Blue: arrdemo.Folder{Name: "blue", Release: "v1"}, Green: arrdemo.Folder{Name: "green", Release: "v0"},
		Builds: []string{"v2", badRelease}, Open: application})
	if err != nil {
		return nil, err
	}
	o.farm.Settle = 500 * time.Millisecond
	o.farm.Facts.CommitRestartsMembers = arr.No // these are no ASP.NET Core applications
	o.blue, o.green = "mysite-blue="+filepath.Join(m.Parent, "blue"), "mysite-green="+filepath.Join(m.Parent, "green")
	o.releases, o.soak, o.machine = m.Builds, 500*time.Millisecond, m
	if err := m.Fit(&o.farm); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// application is whatever release is in a folder.
func application(dir string) (http.Handler, error) {
	var n atomic.Int64
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id, err := os.ReadFile(filepath.Join(dir, "release.txt"))
		release := strings.TrimSpace(string(id))
		rw.Header().Set("X-Release", release)
		if err != nil || release == badRelease && r.URL.Path == "/" && n.Add(1)%4 == 0 {
			http.Error(rw, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(rw, "this is release", release)
	}), nil
}
