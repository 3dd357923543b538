package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// emulate starts the machine whose files are in o.emulate, and fills in what the command line need not say of it. A new one has a site that
// knows nothing of releases, and releases to deploy in build: two that work, and one that never gets fit.
func emulate(o *options) (*iistest.Server, *iis.Server, error) {
	dir, err := filepath.Abs(o.emulate)
	if err != nil {
		return nil, nil, err
	}
	o.site, o.host = "Shop", "shop.example.test"
	o.parent, o.state = filepath.Join(dir, "inetpub"), filepath.Join(dir, "state")
	cfg := iistest.Config{Dir: filepath.Join(dir, "iis"), Host: host, Scale: 0.01}
	if _, err := os.Stat(cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		first := filepath.Join(o.parent, "wwwroot")
		cfg.ApplicationHost = iisdemo.HostConfig([]iisdemo.Site{
			{Name: o.site, Folder: first, Bindings: []string{"http/*:80:"}}, {Name: "Intranet", Folder: first, Bindings: []string{"http/*:8080:"}},
		})
		err := errors.Join(os.MkdirAll(first, 0o755), os.WriteFile(filepath.Join(first, "index.html"), []byte("the old shop\n"), 0o644),
			iisdemo.WriteRelease(filepath.Join(dir, "build", "v1"), "v1", iis.Classic, false),
			iisdemo.WriteRelease(filepath.Join(dir, "build", "v2"), "v2", iis.Classic, false),
			iisdemo.WriteSick(filepath.Join(dir, "build", "v3"), "v3"),
			iisdemo.WriteRelease(filepath.Join(dir, "build", "v4"), "v4", iis.Classic, false))
		if err != nil {
			return nil, nil, err
		}
	}
	emu, err := iistest.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	return emu, &iis.Server{Runner: emu, LockFile: filepath.Join(dir, "appcmd.lock"), Pause: 10 * time.Millisecond, Dial: emu.DialContext}, nil
}

// host opens the application that is in a folder: the demo's, or plain files where there is none.
func host(folder string) (http.Handler, error) {
	if _, err := os.Stat(filepath.Join(folder, "web.config")); errors.Is(err, fs.ErrNotExist) {
		return http.FileServer(http.Dir(folder)), nil
	}
	return iisdemo.OpenRelease(folder)
}
