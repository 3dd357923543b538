package iistest

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Config says what machine to emulate. The zero value is one with a Default Web Site on port 80, in a temporary folder.
//
// All durations, here, in Quirks and in applicationHost.config, are emulated time. Scale turns them into real time.
type Config struct {
	Dir             string      // holds the files of the machine; "": a temporary folder, which Close removes
	ApplicationHost string      // first content of applicationHost.config; "": what is in Dir, else a Default Web Site on *:80:
	Ports           map[int]int // emulated port -> real port on 127.0.0.1; others get a free one

	// Host opens the application that lives in a folder (a release): one for each worker process, site id and application path. It is called
	// after the cold start, and again when the application restarts. If the handler is an io.Closer it is closed when the application is
	// unloaded. An error makes the application fail to start: 500. nil: the files in the folder.
	Host func(folder string) (http.Handler, error)
	// Path turns a physical path into a folder of this machine. nil: environment variables are filled in (SystemDrive is C:), and where the
	// system is not Windows C:\x becomes Dir/drives/C/x.
	Path func(physicalPath string) string

	Scale       float64       // real time per emulated time: 0.01 makes a 90 s limit last 0.9 s; 0: 1
	WASDelay    time.Duration // from a commit until the runtime follows it; 0: 500ms, negative: none
	WorkerStart time.Duration // start of a worker process; 0: 1s, negative: none
	AppStart    time.Duration // cold start of an application in a worker process; 0: 3s, negative: none
	// HostingShutdown is how long requests of a classic application may go on after it has been unloaded, unless its web.config says otherwise
	// in the shutdownTimeout of hostingEnvironment; 0: 30s.
	HostingShutdown time.Duration

	Quirks           Quirks
	ARR              ARRQuirks
	Elevation        Elevation
	NoRequestMonitor bool                // the feature Request Monitor is not installed: requests cannot be listed
	Language         Language            // of texts
	Encode           func(string) []byte // code page of text output, such as CP866; nil: UTF-8. XML output is always UTF-8
	Logger           *slog.Logger        // what happens inside, at Debug; nil: silent
}

// Elevation is how much the caller of appcmd may do. The three ways in which a lack of it shows were all seen in the field.
type Elevation uint8

// Elevations.
const (
	Elevated            Elevation = iota
	NotElevatedUnknown            // reads work with each state Unknown; changes fail with exit 5
	NotElevatedWAS                // "The WAS service is not available", exit 50
	NotElevatedRedirect           // redirection.config cannot be read, exit 1168
)

// Language is the language of texts. Object names, property names and "ERROR ( " are English in all.
type Language uint8

// Languages.
const (
	English Language = iota
	Russian          // two messages as seen on a real machine, those of Windows as Windows has them, the others made up
)

// defaults returns c with its defaults filled in, and all that is wrong with it.
func (c Config) defaults() (Config, error) {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.Scale < 0 {
		bad("Scale %v is negative", c.Scale)
	}
	if c.Scale == 0 {
		c.Scale = 1
	}
	for _, d := range []struct {
		at   *time.Duration
		zero time.Duration
	}{
		{&c.WASDelay, 500 * time.Millisecond}, {&c.WorkerStart, time.Second}, {&c.AppStart, 3 * time.Second}, {&c.HostingShutdown, 30 * time.Second},
	} {
		switch {
		case *d.at == 0:
			*d.at = d.zero
		case *d.at < 0:
			*d.at = 0
		}
	}
	for port, real := range c.Ports {
		if port < 1 || port > 65535 || real < 0 || real > 65535 {
			bad("Ports %s: a port is 1 to 65535", strconv.Itoa(port)+"->"+strconv.Itoa(real))
		}
	}
	if c.Elevation > NotElevatedRedirect {
		bad("Elevation %d is unknown", c.Elevation)
	}
	if c.Language > Russian {
		bad("Language %d is unknown", c.Language)
	}
	if c.Quirks.RequestSpelling > SpellingRuntime {
		bad("Quirks.RequestSpelling %d is unknown", c.Quirks.RequestSpelling)
	}
	for _, q := range Table() {
		if *q.Field(&c.Quirks) > Off {
			bad("Quirks.%s: %d is no position", q.Name, *q.Field(&c.Quirks))
		}
	}
	c.Quirks = c.Quirks.resolve()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, multi.Join(wrong...)
}

// defaultApplicationHost is a machine fresh after the installation, without what this package has no use for.
const defaultApplicationHost = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>

    <system.applicationHost>

        <applicationPools>
            <add name="DefaultAppPool" managedRuntimeVersion="v4.0" />
            <applicationPoolDefaults managedRuntimeVersion="v4.0">
                <processModel identityType="ApplicationPoolIdentity" />
            </applicationPoolDefaults>
        </applicationPools>

        <sites>
            <site name="Default Web Site" id="1">
                <application path="/">
                    <virtualDirectory path="/" physicalPath="%SystemDrive%\inetpub\wwwroot" />
                </application>
                <bindings>
                    <binding protocol="http" bindingInformation="*:80:" />
                </bindings>
            </site>
            <siteDefaults>
                <logFile logFormat="W3C" directory="%SystemDrive%\inetpub\logs\LogFiles" />
            </siteDefaults>
            <applicationDefaults applicationPool="DefaultAppPool" />
            <virtualDirectoryDefaults allowSubDirConfig="true" />
        </sites>

    </system.applicationHost>

    <system.webServer>
        <defaultDocument enabled="true">
            <files>
                <add value="index.html" />
            </files>
        </defaultDocument>
    </system.webServer>

</configuration>
`
