package arrdemo

import (
	"errors"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
)

// What the machine has, by name.
const (
	Farm = "MySite-Farm" // the server farm
	Pool = "ArrFront"    // the pool of the site that feeds it, at port 80
	Host = "www.example.test"
)

// Spec says what is on the machine.
type Spec struct {
	Name      string                                 // of the example
	Blue      Folder                                 // of the site MySite-blue, at 127.0.0.1:8001, which is the farm's member mysite-blue
	Green     Folder                                 // of the site MySite-green, at 127.0.0.1:8002, which is mysite-green
	Builds    []string                               // releases that are to be deployed
	WebConfig string                                 // in each release; "": none
	Open      func(dir string) (http.Handler, error) // the application that is in a folder
}

// Folder is one of a site, in Machine.Parent, and the release that it holds at first.
type Folder struct{ Name, Release string }

// Machine is an emulated one with IIS and ARR on it, as one that has a farm should be: ARR's pool immortal, a health test, a long time-out.
type Machine struct {
	*iistest.Server
	Parent string   // the folder in which those of the releases lie
	Builds []string // the folders of Spec.Builds
	dir    string
}

// New starts one. The caller closes it.
func New(s Spec) (_ *Machine, err error) {
	m := &Machine{}
	if m.dir, err = os.MkdirTemp("", s.Name+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	m.Parent = filepath.Join(m.dir, "inetpub")
	for _, f := range []Folder{s.Blue, s.Green} {
		if err := s.write(filepath.Join(m.Parent, f.Name), f.Release); err != nil {
			return nil, err
		}
	}
	for _, id := range s.Builds {
		dir := filepath.Join(m.dir, "build", id)
		if err := s.write(dir, id); err != nil {
			return nil, err
		}
		m.Builds = append(m.Builds, dir)
	}
	m.Server, err = iistest.New(iistest.Config{Dir: filepath.Join(m.dir, "machine"), Scale: 0.002, WASDelay: 20 * time.Second, WorkerStart: 5 * time.Second,
		AppStart: 20 * time.Second, ApplicationHost: s.hostConfig(m.Parent), Host: s.Open})
	return m, err
}

// write makes a release.
func (s Spec) write(dir, id string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{"release.txt": id + "\n"}
	if s.WebConfig != "" {
		files["web.config"] = s.WebConfig
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Fit sets in a Config what stands for the machine.
func (m *Machine) Fit(c *arr.Config) (err error) {
	c.Runner, c.LockFile, c.Memory = m.Process(), filepath.Join(m.dir, "lock"), filepath.Join(m.dir, "farm.json")
	c.PowerShell, err = m.PowerShell()
	return err
}

// Close ends the machine, and removes what it was made of.
func (m *Machine) Close() error {
	var errs []error
	if m.Server != nil {
		errs = append(errs, m.Server.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(m.dir))...)
}

// hostConfig is the machine's applicationHost.config.
func (s Spec) hostConfig(parent string) string {
	folder := func(f Folder) string { return html.EscapeString(filepath.Join(parent, f.Name)) }
	return strings.NewReplacer("PARENT", html.EscapeString(parent), "BLUE", folder(s.Blue), "GREEN", folder(s.Green), "FARM", Farm, "POOL", Pool, "HOST", Host).Replace(hostConfig)
}

const hostConfig = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
    <system.applicationHost>
        <applicationPools>
            <add name="POOL" managedRuntimeVersion="" startMode="AlwaysRunning">
                <processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" />
                <recycling disallowRotationOnConfigChange="true"><periodicRestart time="00:00:00" /></recycling>
            </add>
            <add name="MySite-blue" managedRuntimeVersion=""><processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" /></add>
            <add name="MySite-green" managedRuntimeVersion=""><processModel idleTimeout="00:00:00" shutdownTimeLimit="1.00:00:00" /></add>
        </applicationPools>
        <sites>
            <site name="MySite" id="1">
                <application path="/" applicationPool="POOL"><virtualDirectory path="/" physicalPath="PARENT" /></application>
                <bindings><binding protocol="http" bindingInformation="*:80:" /></bindings>
            </site>
            <site name="MySite-blue" id="2">
                <application path="/" applicationPool="MySite-blue"><virtualDirectory path="/" physicalPath="BLUE" /></application>
                <bindings><binding protocol="http" bindingInformation="127.0.0.1:8001:" /></bindings>
            </site>
            <site name="MySite-green" id="3">
                <application path="/" applicationPool="MySite-green"><virtualDirectory path="/" physicalPath="GREEN" /></application>
                <bindings><binding protocol="http" bindingInformation="127.0.0.1:8002:" /></bindings>
            </site>
        </sites>
    </system.applicationHost>
    <webFarms>
        <webFarm name="FARM" enabled="true">
            <server address="mysite-blue"><applicationRequestRouting weight="100" httpPort="8001" /></server>
            <server address="mysite-green"><applicationRequestRouting weight="100" httpPort="8002" /></server>
            <applicationRequestRouting>
                <loadBalancing algorithm="WeightedRoundRobin" />
                <healthCheck url="http://HOST/release.txt" interval="00:00:05" timeout="08:20:00" />
                <protocol timeout="1.00:00:00" bufferChunkedResponses="false" />
            </applicationRequestRouting>
        </webFarm>
    </webFarms>
    <system.webServer>
        <proxy enabled="true" preserveHostHeader="true" />
        <rewrite>
            <globalRules>
                <rule name="ARR_FARM_loadbalance" patternSyntax="Wildcard" stopProcessing="true">
                    <match url="*" />
                    <conditions><add input="{SERVER_PORT}" pattern="80" /></conditions>
                    <action type="Rewrite" url="http://FARM/{R:0}" />
                </rule>
            </globalRules>
        </rewrite>
    </system.webServer>
</configuration>
`
