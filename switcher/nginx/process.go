package nginx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// worker is a worker process. Its start tells it from a later process of the same number.
type worker struct {
	pid      int
	start    uint64 // clock ticks after the machine's start
	quitting bool   // its title says that it is shutting down
}

// is tells whether both are the same process.
func (w worker) is(o worker) bool { return w.pid == o.pid && w.start == o.start }

// holds tells whether w is among all.
func holds(all []worker, w worker) bool { return slices.ContainsFunc(all, w.is) }

// What nginx calls its processes.
const (
	masterTitle   = "nginx: master process"
	workerTitle   = "nginx: worker process"
	quittingTitle = "nginx: worker process is shutting down"
)

// process is a running process.
type process struct {
	pid, parent int
	start       uint64
	title       string
}

// parseStat reads /proc/PID/stat, but for the title.
func parseStat(text string) (process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, errors.New("no name in it")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text[:open]))
	f := strings.Fields(text[end+1:])
	if err != nil || len(f) < 20 {
		return process{}, errors.New("too short")
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return process{}, err
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	return process{pid: pid, parent: parent, start: start}, err
}

// parseChildren reads /proc/PID/task/PID/children: numbers with blanks between them.
func parseChildren(text string) ([]int, error) {
	var all []int
	for _, f := range strings.Fields(text) {
		pid, err := strconv.Atoi(f)
		if err != nil || pid <= 0 {
			return nil, fmt.Errorf("%.20q is no process ID", f)
		}
		all = append(all, pid)
	}
	return all, nil
}

// asWorker tells whether the process is a worker of the master.
func (p process) asWorker(master int) (worker, bool) {
	return worker{pid: p.pid, start: p.start, quitting: p.title == quittingTitle},
		p.parent == master && (p.title == workerTitle || p.title == quittingTitle)
}

// master returns the master process that the PID file names.
func (s *Switcher) master() (int, error) {
	pid, err := readPID(s.cfg.PIDFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%w: %w", ErrNotRunning, err)
		}
		return 0, err
	}
	if err := isMaster(pid); err != nil {
		return 0, fmt.Errorf("%w: %q names process %d: %w", ErrNotRunning, s.cfg.PIDFile, pid, err)
	}
	if old, err := readPID(s.cfg.PIDFile + ".oldbin"); err == nil && isMaster(old) == nil {
		return 0, fmt.Errorf("the program of nginx is being replaced: the old master process %d, with workers that serve, does not load what is loaded now; "+
			"end that first", old)
	}
	return pid, nil
}

func isMaster(pid int) error {
	p, err := lookAt(pid)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(p.title, masterTitle) {
		return fmt.Errorf("it is %.60q, not a master process of nginx", p.title)
	}
	return nil
}

func readPID(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%q holds no process ID but %.20q", path, b)
	}
	return pid, nil
}
