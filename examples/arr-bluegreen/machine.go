package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/abswap/abswap/examples/internal/arrdemo"
	"github.com/abswap/abswap/switcher/iis"
)

// newMachine starts an emulated machine and sets o to it.
func newMachine(o *options) (*arrdemo.Machine, error) {
	first := arrdemo.Folder{Name: "MySite.v1", Release: "v1"} // both sites serve it at first
	m, err := arrdemo.New(arrdemo.Spec{Name: "arr-bluegreen", Blue: first, Green: first, Builds: []string{"v2", "v3", "v4"}, WebConfig: webConfig, Open: application})
	if err != nil {
		return nil, err
	}
	if err := m.Fit(&o.farm); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	o.quick, o.parent, o.releases = true, m.Parent, m.Builds
	o.app.Server = &iis.Server{Runner: o.farm.Runner, LockFile: o.farm.LockFile, Dial: m.DialContext, Folder: m.Folder}
	return m, nil
}

// webConfig makes a release an ASP.NET Core application. The switch commits nothing, but the installation does, when it gives the idle site its new
// folder: without disallowRotationOnConfigChange that would restart the live one, and cut what takes longer than its shutdown time.
const webConfig = `<configuration><system.webServer><aspNetCore processPath="app.exe" hostingModel="inprocess" shutdownTimeLimit="60"><handlerSettings>` +
	`<handlerSetting name="disallowRotationOnConfigChange" value="true" /></handlerSettings></aspNetCore></system.webServer></configuration>`

// application is the release in a folder: it serves its files, and /upload tells how much it was sent.
func application(dir string) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.HandleFunc("/upload", func(rw http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprintln(rw, n)
		}
	})
	return mux, nil
}
