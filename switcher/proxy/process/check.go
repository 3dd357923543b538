package process

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
)

// Check sees, without changing anything, whether the slot can do its work on this machine: its folder can be written, the program is
// there and can be run, and the address is free or the slot's own. It returns all findings at once; what does not stop a run is an
// *abswap.Warning, such as a tool that runs in a service or a job which ends everything that it has begun.
func (s *Slot) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("check: %w", context.Cause(ctx))
	}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	warn := func(format string, args ...any) { add(&abswap.Warning{Err: s.errorf(format, args...)}) }

	add(s.checkDir())
	rec, err := s.load()
	add(err)
	if err == nil {
		add(s.checkProgram(rec))
		add(s.checkAddress(ctx, rec))
	}
	for _, slot := range r.Slots {
		other, ok := abswap.As[*Slot](slot)
		if !ok || other.Name() <= s.Name() { // one of the two says it
			continue
		}
		if s.cfg.Address != "" && s.cfg.Address == other.cfg.Address {
			add(s.errorf("slot %q has the same address, %s", other.Name(), s.cfg.Address))
		}
		if s.cfg.Dir == other.cfg.Dir {
			add(s.errorf("slot %q has the same folder, %q", other.Name(), s.cfg.Dir))
		}
	}
	for _, a := range s.cfg.Command {
		for _, word := range regexp.MustCompile(`\{[a-z]+\}`).FindAllString(a, -1) {
			if !known(word) {
				warn("Command: %q in %q is no placeholder and stays as it is", word, a)
			}
		}
	}
	if runtime.GOOS == "windows" {
		if n := len(s.Log()); n > 240 {
			warn("the path of its log has %d characters; programs that know no long paths cannot open it", n)
		}
		if s.cfg.StopPath == "" && s.cfg.Grace > 0 {
			warn("no StopPath: the application is asked to stop by CTRL_BREAK, which one without a console does not get; then it is killed")
		}
		switch ext := filepath.Ext(s.cfg.Command[0]); ext {
		case ".bat", ".cmd":
			warn("Command: %q is a batch file, which asks a question at CTRL_BREAK: name the program itself", s.cfg.Command[0])
		}
	}
	why, err := proc.DiesWithUs()
	if err != nil {
		warn("it is not known whether the application outlives this tool: %w", err)
	}
	if why != "" {
		warn("the application will not outlive this tool: %s", why)
	}
	return multi.Join(errs...)
}

func known(word string) bool {
	switch word {
	case "{address}", "{host}", "{port}", "{release}", "{slot}", "{dir}":
		return true
	}
	return false
}

// checkDir sees that the slot's folder can be written, or made.
func (s *Slot) checkDir() error {
	info, err := os.Stat(s.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := writable(filepath.Dir(s.cfg.Dir)); err != nil {
			return s.errorf("folder %q does not exist and cannot be made: %w", s.cfg.Dir, err)
		}
		return nil
	}
	switch {
	case err != nil:
		return s.errorf("its folder: %w", err)
	case !info.IsDir():
		return s.errorf("%q is not a folder", s.cfg.Dir)
	}
	if err := writable(s.cfg.Dir); err != nil {
		return s.errorf("folder %q cannot be written: %w", s.cfg.Dir, err)
	}
	return nil
}

// placeholderAddress stands for the address where a command is only looked at.
func placeholderAddress() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }

// checkProgram sees that the program can be run, as far as that can be told: one in a release's folder only once that is installed.
func (s *Slot) checkProgram(rec *record) error {
	name, dir := s.cfg.Command[0], rec.Release.Path
	inRelease := filepath.Base(name) != name && !filepath.IsAbs(name)
	if rec.Release.ID == "" {
		if inRelease || name != s.command(rec.Release, placeholderAddress())[0] {
			return nil
		}
	} else {
		if err := s.checkFolder(rec.Release); err != nil {
			return &abswap.Warning{Err: err} // the next release has a folder of its own
		}
		name = s.command(rec.Release, placeholderAddress())[0]
	}
	if _, err := findProgram(name, dir); err != nil {
		err = s.errorf("command: %w", err)
		if inRelease {
			return &abswap.Warning{Err: err}
		}
		return err
	}
	return nil
}

// checkAddress sees that nobody but the slot itself has its fixed address.
func (s *Slot) checkAddress(ctx context.Context, rec *record) error {
	if s.cfg.Address == "" {
		return nil
	}
	addr, err := parseAddress(s.cfg.Address)
	if err != nil {
		return s.errorf("%w", err)
	}
	if rec.Run != nil {
		if m, err := s.find(ctx, rec.Run); err != nil || (len(m.All) > 0 && rec.Run.Address == addr.String() && s.cfg.ForeignListener) {
			return err
		} else if len(m.All) > 0 && rec.Run.Address == addr.String() {
			err := proc.ListensOnly(addr, m.All)
			if _, ok := errors.AsType[*proc.ForeignError](err); ok {
				return s.errorf("its address: %w", err)
			}
			return nil
		}
	}
	if err := addressFree(ctx, addr); err != nil {
		return s.errorf("its address: %w", err)
	}
	return nil
}
