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

	"github.com/abswap/abswap/switcher/arr"
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
                <application path="/" applicationPool="MySite-blue"><virtualDirectory path="/" physicalPath="PARENT/blue" /></application>
                <bindings><binding protocol="http" bindingInformation="127.0.0.1:8001:" /></bindings>
            </site>
            <site name="MySite-green" id="3">
                <application path="/" applicationPool="MySite-green"><virtualDirectory path="/" physicalPath="PARENT/green" /></application>
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

// badRelease fails every fourth request.
const badRelease = "v3-bad"

// newMachine starts one and sets o to it.
func newMachine(o *options) (_ *machine, err error) {
	m := &machine{}
	if m.dir, err = os.MkdirTemp("", "arr-canary"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(m.dir))
		}
	}()
	parent := filepath.Join(m.dir, "inetpub")
	for dir, id := range map[string]string{filepath.Join(parent, "blue"): "v1", filepath.Join(parent, "green"): "v0", filepath.Join(m.dir, "build", "v2"): "v2",
		filepath.Join(m.dir, "build", badRelease): badRelease} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "release.txt"), []byte(id+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	o.releases = []string{filepath.Join(m.dir, "build", "v2"), filepath.Join(m.dir, "build", badRelease)}
	m.srv, err = iistest.New(iistest.Config{Dir: filepath.Join(m.dir, "machine"), Scale: 0.002, WASDelay: 20 * time.Second, WorkerStart: 5 * time.Second,
		AppStart: 20 * time.Second, ApplicationHost: strings.ReplaceAll(machineConfig, "PARENT", filepath.ToSlash(parent)), Host: application})
	if err != nil {
		return nil, err
	}
	f := &o.farm
	if f.PowerShell, err = m.srv.PowerShell(); err != nil {
		return nil, errors.Join(err, m.srv.Close())
	}
	f.Runner, f.LockFile, f.Memory, f.Settle = m.srv.Process(), filepath.Join(m.dir, "lock"), filepath.Join(m.dir, "farm.json"), 500*time.Millisecond
	f.Facts.CommitRestartsMembers = arr.No // these are no ASP.NET Core applications
	o.blue, o.green = "mysite-blue="+filepath.Join(parent, "blue"), "mysite-green="+filepath.Join(parent, "green")
	o.soak, o.machine = 500*time.Millisecond, m
	return m, nil
}

// bad tells whether a release is one that must be taken back.
func (m *machine) bad(release string) bool { return release == badRelease }

func (m *machine) close() {
	if err := errors.Join(m.srv.Close(), os.RemoveAll(m.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "emulated machine:", err)
	}
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
