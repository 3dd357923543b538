package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Output is what a program has left.
type Output struct {
	Stdout, Stderr []byte
	Code           int // its exit code
}

// Runner runs a program to its end. An error says that it could not be run or was not let finish; a program that fails is none.
type Runner func(ctx context.Context, program string, args ...string) (Output, error)

// runProgram is the Runner of this machine.
func runProgram(ctx context.Context, program string, args ...string) (Output, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 2 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		return Output{}, ctx.Err()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		err = nil
	}
	if err != nil {
		return Output{}, fmt.Errorf("%s: %w", program, err)
	}
	return Output{out.Bytes(), errs.Bytes(), cmd.ProcessState.ExitCode()}, nil
}

// run runs a command and returns an error if it fails, with what it said.
func (s *Switcher) run(ctx context.Context, command []string, more ...string) (Output, error) {
	args := append(slices.Clone(command[1:]), more...)
	out, err := s.cfg.Run(ctx, command[0], args...)
	if err != nil {
		return out, err
	}
	if out.Code != 0 {
		said := parseSaid(string(out.Stderr))
		var texts []string
		for _, x := range said {
			if x.Level != "notice" && x.Level != "info" && x.Level != "debug" {
				texts = append(texts, x.Text)
			}
		}
		if len(texts) == 0 {
			texts = []string{strings.Join(strings.Fields(limit(string(out.Stderr)+" "+string(out.Stdout), 400)), " ")}
		}
		return out, fmt.Errorf("%s: exit code %d: %s", strings.Join(append(slices.Clone(command), more...), " "), out.Code, strings.Join(texts, "; "))
	}
	return out, nil
}

// said is one line of nginx about its configuration.
type said struct {
	Level string // emerg, alert, crit, error, warn, notice, info, debug
	PID   int    // of the process that said it; 0: not told
	Text  string
}

var saidForm = regexp.MustCompile(`^(?:nginx: |\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )\[(emerg|alert|crit|error|warn|notice|info|debug)\] (?:(\d+)#\d+: )?(?:\*\d+ )?(.*)$`)

// parseSaid reads what nginx -t writes to its standard error, or lines of an error log. Lines of another form are left out.
func parseSaid(text string) []said {
	var all []said
	for line := range strings.Lines(text) {
		m := saidForm.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[2])
		all = append(all, said{Level: m[1], PID: pid, Text: limit(m[3], 400)})
	}
	return all
}

func limit(text string, n int) string {
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "") + "..."
	}
	return text
}

// Version is that of nginx: 1.22.1 is {1, 22, 1}.
type Version [3]int

var versionForm = regexp.MustCompile(`nginx version: [A-Za-z_-]+/(\d{1,6})\.(\d{1,6})\.(\d{1,6})`)

// parseVersion reads what nginx -v writes to its standard error.
func parseVersion(text string) (v Version, err error) {
	m := versionForm.FindStringSubmatch(text)
	if m == nil {
		return v, fmt.Errorf("%.80q tells no version of nginx", text)
	}
	for i := range v {
		n, nerr := strconv.Atoi(m[i+1])
		v[i], err = n, multi.Join(err, nerr)
	}
	return v, err
}

// String returns "1.22.1".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// before tells whether v is older than w.
func (v Version) before(w Version) bool { return slices.Compare(v[:], w[:]) < 0 }

// test asks nginx whether it would take the configuration as it lies on the disk, and returns it.
func (s *Switcher) test(ctx context.Context) ([]directive, error) {
	out, err := s.run(ctx, s.cfg.Command, "-T")
	if err != nil {
		return nil, err
	}
	tree, err := expand(parseDump(string(out.Stdout)))
	if err != nil {
		return nil, err
	}
	s.notes.learn(tree)
	return tree, nil
}
