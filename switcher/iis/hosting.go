package iis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iis/folder"
)

// hosting is what the web.config of a release says of how it runs.
type hosting struct {
	mode       Mode
	noRotation bool          // disallowRotationOnConfigChange
	shutdown   time.Duration // how long old requests may go on when the application is unloaded
}

// hosting reads the web.config in a folder; App.Mode goes before it.
func (a *App) hosting(dir string) (hosting, error) {
	h := hosting{mode: a.Mode, shutdown: 30 * time.Second}
	data, err := os.ReadFile(filepath.Join(a.server().folder(dir), "web.config"))
	if errors.Is(err, fs.ErrNotExist) {
		if h.mode == 0 {
			h.mode = Classic
		}
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("how the release in %q is hosted: %w", dir, err)
	}
	conf, err := folder.ParseWebConfig(data)
	if err != nil {
		return h, fmt.Errorf("web.config of the release in %q: %w", dir, err)
	}
	if conf.HostingShutdown != nil {
		h.shutdown = *conf.HostingShutdown
	}
	core := conf.AspNetCore
	switch {
	case core == nil && h.mode == 0:
		h.mode = Classic
	case core != nil:
		if h.mode == 0 {
			h.mode = CoreOutOfProcess
			if strings.EqualFold(core.HostingModel, "InProcess") {
				h.mode = CoreInProcess
			}
		}
		h.shutdown = core.ShutdownTimeLimit
		for name, value := range core.Settings {
			if strings.EqualFold(name, "disallowRotationOnConfigChange") {
				h.noRotation = strings.EqualFold(value, "true")
			}
		}
	}
	return h, nil
}

var variable = regexp.MustCompile(`%([^%]+)%`)

// folder is where this process finds a physical path.
func (s *Server) folder(physicalPath string) string {
	if s.Folder != nil {
		return s.Folder(physicalPath)
	}
	return variable.ReplaceAllStringFunc(physicalPath, func(v string) string {
		if value, ok := os.LookupEnv(v[1 : len(v)-1]); ok {
			return value
		}
		return v
	})
}
