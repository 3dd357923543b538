package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// DiesWithUs says why what Launch starts would be ended together with this process; "": nothing speaks for it. On Linux: this process
// runs in a service of systemd, which by default ends all processes of the service when it stops.
func DiesWithUs() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return serviceIn(string(data)), err
}

// serviceIn reads lines of the form "0::/system.slice/deploy.service".
func serviceIn(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || (f[1] != "" && f[1] != "name=systemd") {
			continue
		}
		if unit := path.Base(f[2]); strings.HasSuffix(unit, ".service") && !strings.HasPrefix(unit, "user@") {
			return fmt.Sprintf("it runs in the service %s, which ends all its processes unless it has KillMode=process", unit)
		}
	}
	return ""
}
