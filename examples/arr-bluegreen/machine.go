package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// machine is an emulated one with IIS and ARR on it, as most that have a farm are: its pool immortal, a health test, a long time-out.
type machine struct {
	srv *iistest.Server
	dir string
}

const machineConfig = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
    <system.applicationHost>
        <applicationPools>
            <add name="ArrFront" managedRuntimeVersion="" startMode="AlwaysRunning">
                <processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" />
                <recycling disallowRotationOnConfigChange="true"><periodicRestart time="00:00:00" /></recycling>
            </add>
            <add name="MySite-blue" managedRuntimeVersion=""><processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" /></add>
            <add name="MySite-green" managedRuntimeVersion=""><processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" /></add>
        </applicationPools>
        <sites>
            <site name="MySite" id="1">
                <application path="/" applicationPool="ArrFront"><virtualDirectory path="/" physicalPath="PARENT" /></application>
                <bindings><binding protocol="http" bindingInformation="*:80:" /></bindings>
            </site>
            <site name="MySite-blue" id="2">
                <application path="/" applicationPool="MySite-blue"><virtualDirectory path="/" physicalPath="FIRST" /></application>
                <bindings><binding protocol="http" bindingInformation="127.0.0.1:8001:" /></bindings>
            </site>
            <site name="MySite-green" id="3">
                <application path="/" applicationPool="MySite-green"><virtualDirectory path="/" physicalPath="FIRST" /></application>
                <bindings><binding protocol="http" bindingInformation="127.0.0.1:8002:" /></bindings>
            </site>
        </sites>
    </system.applicationHost>
    <webFarms>
        <webFarm name="MySite-Farm" enabled="true">
            <server address="mysite-blue"><applicationRequestRouting weight="100" httpPort="8001" /></server>
            <server address="mysite-green"><applicationRequestRouting weight="100" httpPort="8002" /></server>
            <applicationRequestRouting>
                <loadBalancing algorithm="WeightedRoundRobin" />
                <healthCheck url="http://www.example.test/release.txt" interval="00:00:05" timeout="00:16:40" />
                <protocol timeout="1.00:00:00" bufferChunkedResponses="false" />
            </applicationRequestRouting>
        </webFarm>
    </webFarms>
    <system.webServer>
        <proxy enabled="true" preserveHostHeader="true" />
        <rewrite>
            <globalRules>
                <rule name="ARR_MySite-Farm_loadbalance" patternSyntax="Wildcard" stopProcessing="true">
                    <match url="*" />
                    <conditions><add input="{SERVER_PORT}" pattern="80" /></conditions>
                    <action type="Rewrite" url="http://MySite-Farm/{R:0}" />
                </rule>
            </globalRules>
        </rewrite>
    </system.webServer>
</configuration>
`

// newMachine starts one and sets o to it.
func newMachine(o *options) (_ *machine, err error) {
	m := &machine{}
	if m.dir, err = os.MkdirTemp("", "arr-bluegreen"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(m.dir))
		}
	}()
	o.parent = filepath.Join(m.dir, "inetpub")
	first := filepath.Join(o.parent, "MySite.v1")
	for _, id := range []string{"v1", "v2", "v3", "v4"} {
		dir := filepath.Join(m.dir, "build", id)
		if id == "v1" {
			dir = first
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "release.txt"), []byte(id+"\n"), 0o644); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "web.config"), []byte(webConfig), 0o644); err != nil {
			return nil, err
		}
		if id != "v1" {
			o.releases = append(o.releases, dir)
		}
	}
	m.srv, err = iistest.New(iistest.Config{Dir: filepath.Join(m.dir, "machine"), Scale: 0.002, WASDelay: 20 * time.Second, WorkerStart: 5 * time.Second,
		AppStart: 20 * time.Second, ApplicationHost: strings.NewReplacer("PARENT", o.parent, "FIRST", first).Replace(machineConfig), Host: application})
	if err != nil {
		return nil, err
	}
	if o.powerShell, err = m.srv.PowerShell(); err != nil {
		return nil, errors.Join(err, m.srv.Close())
	}
	o.quick, o.runner, o.lock, o.memory = true, m.srv.Process(), filepath.Join(m.dir, "lock"), filepath.Join(m.dir, "farm.json")
	o.app.Server = &iis.Server{Runner: o.runner, LockFile: o.lock, Dial: m.srv.DialContext, Folder: m.srv.Folder}
	return m, nil
}

// webConfig makes a release an ASP.NET Core application. The switch commits nothing, but the installation does, when it gives the idle site its new
// folder: without disallowRotationOnConfigChange that would restart the live one, and cut what takes longer than its shutdown time.
const webConfig = `<configuration><system.webServer><aspNetCore processPath="app.exe" hostingModel="inprocess" shutdownTimeLimit="60"><handlerSettings>` +
	`<handlerSetting name="disallowRotationOnConfigChange" value="true" /></handlerSettings></aspNetCore></system.webServer></configuration>`

func (m *machine) close() {
	if err := errors.Join(m.srv.Close(), os.RemoveAll(m.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "emulated machine:", err)
	}
}

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
