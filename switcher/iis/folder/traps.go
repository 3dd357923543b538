package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Limits are what the application's clients need. Check warns of what web.config sets too low for them.
type Limits struct {
	UploadBytes int64         // the largest request; 0: 30,000,000, IIS' own default
	UploadTime  time.Duration // the longest request; 0: 10m
}

// maxWebConfig is what IIS reads of a web.config unless the registry of the machine says otherwise: 250 KiB.
const maxWebConfig = 250 << 10

// Check looks through the folder of a release, before or after it was installed, and tells all that would keep it from going live without
// notice. A *abswap.Warning among the findings is such that a release can live with; the others would be an outage: an app_offline.htm, which
// answers 503 to everybody, and a web.config that IIS cannot read. It also returns what web.config says; nil if there is none. The facts that
// matter only to one way of switching (DisallowRotationOnConfigChange, ShutdownDelay) are told, not judged.
func Check(dir string, l Limits) (*WebConfig, error) {
	if l.UploadBytes == 0 {
		l.UploadBytes = 30_000_000
	}
	if l.UploadTime == 0 {
		l.UploadTime = 10 * time.Minute
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	conf, err := check(root, l)
	return conf, multi.Join(err, root.Close())
}

func check(root *os.Root, l Limits) (*WebConfig, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var errs []error
	var name string
	core := false
	for _, e := range entries {
		lower := strings.ToLower(e.Name())
		switch {
		case lower == "app_offline.htm":
			errs = append(errs, fmt.Errorf("%q is in the release: IIS would answer 503 with it to everybody; remove it", e.Name()))
		case lower == "web.config":
			name = e.Name()
		case strings.HasSuffix(lower, ".runtimeconfig.json"):
			core = true
		}
	}
	if name == "" {
		if core {
			errs = append(errs, abswap.Warnf("an ASP.NET Core application is in %q, but no web.config: IIS would not start it", root.Name()))
		}
		return nil, multi.Join(errs...)
	}
	data, err := root.ReadFile(name)
	if err != nil {
		return nil, multi.Join(append(errs, err)...)
	}
	if len(data) > maxWebConfig {
		errs = append(errs, abswap.Warnf("web.config has %d KiB: IIS reads 250 KiB at most, unless the machine's registry allows more", len(data)>>10))
	}
	conf, err := ParseWebConfig(data)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, conf.traps(l)...)
		errs = append(errs, logTrap(root, conf))
	}
	return conf, multi.Join(errs...)
}

// traps are warnings, all of them.
func (c *WebConfig) traps(l Limits) []error {
	var errs []error
	warn := func(format string, args ...any) { errs = append(errs, abswap.Warnf("web.config: "+format, args...)) }
	if c.Transforms {
		warn("it holds instructions for a transformation (xdt), which was not applied")
	}
	for _, s := range c.External {
		warn("section %q lies in a file of its own and was not looked at", s)
	}
	for _, p := range c.Limits {
		where := ""
		if p.Path != "" {
			where = fmt.Sprintf(" below %q", p.Path)
		}
		if n := p.MaxAllowedContentLength; n != nil && *n < l.UploadBytes {
			warn("maxAllowedContentLength%s is %d bytes: IIS refuses uploads of more (404.13), %d are wanted", where, *n, l.UploadBytes)
		}
		if n := p.MaxRequestLength; n != nil && *n < l.UploadBytes {
			warn("maxRequestLength%s is %d bytes: ASP.NET refuses uploads of more, %d are wanted", where, *n, l.UploadBytes)
		}
		if t := p.ExecutionTimeout; t != nil && *t < l.UploadTime && !c.Debug {
			warn("executionTimeout%s is %s: ASP.NET ends requests that take longer, %s is wanted", where, *t, l.UploadTime)
		}
	}
	if a := c.AspNetCore; a != nil {
		if a.HostingModel == OutOfProcess && a.RequestTimeout < l.UploadTime {
			warn("requestTimeout of <aspNetCore> is %s: an answer that takes longer is cut (502), %s is wanted", a.RequestTimeout, l.UploadTime)
		}
		if a.HostingModel == InProcess && a.Module != "" && !strings.EqualFold(a.Module, "AspNetCoreModuleV2") {
			warn("hostingModel is InProcess, which the module %s does not know: AspNetCoreModuleV2 is needed", a.Module)
		}
		if a.ShadowCopy {
			warn("enableShadowCopy is on: with a folder for each release it is not needed, and with a recycle it was reported to race")
		}
	}
	if i := c.Initialization; i != nil && i.RemapTo != "" {
		warn("remapManagedRequestsTo answers %q to everybody while the application starts: a probe that looks at the status alone "+
			"would take that for a fit application", i.RemapTo)
	}
	return errs
}

// logTrap warns of a log within the folder.
func logTrap(root *os.Root, conf *WebConfig) error {
	c := conf.AspNetCore
	if c == nil || !c.StdoutLogEnabled {
		return nil
	}
	file := c.StdoutLogFile
	if file == "" {
		file = "aspnetcore-stdout"
	}
	warn := fmt.Sprintf("web.config: stdoutLogEnabled is on: a log that nobody trims is written to %q", file)
	slashed := path.Clean(strings.ReplaceAll(file, `\`, "/"))
	if strings.HasPrefix(slashed, "/") || strings.Contains(slashed, ":") || strings.HasPrefix(slashed, "%") || !filepath.IsLocal(slashed) {
		return abswap.Warnf("%s", warn)
	}
	dir := path.Dir(slashed)
	warn += fmt.Sprintf(", within the release: name %q in Config.Volatile, or the folder differs from its manifest", dir)
	if dir == "." {
		warn = strings.Replace(warn, `name "." in`, "give it a folder of its own and name that in", 1)
	} else if info, err := root.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		warn += "; that folder is not in the release, and older modules write no log then"
	}
	return abswap.Warnf("%s", warn)
}

// grave returns the findings that are no warnings.
func grave(err error) []error {
	var errs []error
	for _, e := range multi.All(err) {
		if _, ok := errors.AsType[*abswap.Warning](e); !ok {
			errs = append(errs, e)
		}
	}
	return errs
}
