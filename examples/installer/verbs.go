package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// plan shows what setup would do.
func (i *installer) plan(ctx context.Context) error {
	actions, err := i.shape.Plan(ctx)
	if err != nil {
		return err
	}
	if len(actions) == 0 {
		i.out.line("nothing to set up: site %q has two slots already", i.site)
		return abswap.ErrNothingToDo
	}
	i.out.line("to be set up for a %s of site %q:", i.strategy, i.site)
	for _, a := range actions {
		i.out.line("  %s", a.What)
		i.out.line("      %s", a.Command)
	}
	return nil
}

// setup shows the plan, asks, and carries it out. What is there already is left alone, so that a setup that was killed is run again.
func (i *installer) setup(ctx context.Context) error {
	if err := i.plan(ctx); err != nil {
		return err
	}
	i.out.line("  write %s into the site's present folder, if it has none, so that what is there now can be recognised", iisdemo.MarkFile)
	if !i.yes {
		i.out.ask("Go on? [y/N] ")
		answer, err := i.in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !strings.EqualFold(strings.TrimSpace(answer), "y") {
			return fmt.Errorf("%w by you: nothing was changed", errRefused)
		}
	}
	if err := i.shape.Apply(ctx); err != nil {
		return err
	}
	if err := i.mark(ctx); err != nil {
		return err
	}
	i.out.line("set up: slots %s and %s of site %q", "blue", "green", i.site)
	return nil
}

// mark writes a mark into the folder of what was there before.
func (i *installer) mark(ctx context.Context) error {
	dir, err := i.present(ctx)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dir, iisdemo.MarkFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, before)
	return errors.Join(err, file.Close())
}

// present is the folder of the first slot, which has what was there before. A slot tells its folder to whom it asks for the release in it.
func (i *installer) present(ctx context.Context) (dir string, err error) {
	configs, err := i.shape.SlotConfigs(ctx)
	if err != nil {
		return "", err
	}
	c := configs[0]
	c.Release = func(folder string) (string, error) {
		dir = folder
		return releaseOf(folder)
	}
	slot, err := iis.NewSlot(c)
	if err != nil {
		return "", err
	}
	_, err = slot.Inspect(ctx)
	return iisdemo.Expand(dir), err
}

// deploy puts a release in the place of the one that serves. What a run before this one has left unfinished is finished first.
func (i *installer) deploy(ctx context.Context) error { return i.deployFrom(ctx, i.path) }

func (i *installer) deployFrom(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	id, err := iisdemo.ReleaseOf(path)
	if err != nil {
		return fmt.Errorf("%w: %q is no release: %w", errRefused, path, err)
	}
	s, slots, err := i.swapper(ctx)
	if err != nil {
		return err
	}
	if rep, err := s.Resume(ctx); err != nil && !errors.Is(err, abswap.ErrNothingToDo) {
		return ended(rep, fmt.Errorf("what was unfinished: %w", err))
	}
	i.out.begin("deploy of " + id)
	rep, err := s.Deploy(ctx, abswap.Release{ID: id, Path: path})
	if err := ended(rep, err); err != nil {
		return err
	}
	i.out.end("%s serves in slot %s; %s is kept warm", id, rep.To, rep.From)
	return i.prune(ctx, slots)
}

// prune removes the folders of old releases, but for the newest three and those that are in a slot.
func (i *installer) prune(ctx context.Context, slots []*iis.Slot) error {
	used := []string{}
	for _, slot := range slots {
		st, err := slot.Inspect(ctx)
		if err != nil {
			return err
		}
		dir, err := i.releases.Path(st.Release)
		if err != nil {
			return err
		}
		used = append(used, dir)
	}
	removed, err := i.releases.Prune(ctx, folder.PruneOptions{InUse: used})
	for _, r := range removed {
		i.out.line("removed the folder of %s", r.Release)
	}
	return err
}

// back sends the work back to the other slot, which was kept warm.
func (i *installer) back(ctx context.Context) error {
	s, slots, err := i.swapper(ctx)
	if err != nil {
		return err
	}
	active, err := s.Switcher.Active(ctx)
	if err != nil {
		return err
	}
	to := slots[0].Name()
	if to == active {
		to = slots[1].Name()
	}
	i.out.begin("back to slot " + to)
	rep, err := s.Swap(ctx, to)
	if err := ended(rep, err); err != nil {
		return err
	}
	i.out.end("slot %s serves", to)
	return nil
}

// resume finishes what a run before this one has left.
func (i *installer) resume(ctx context.Context) error {
	s, _, err := i.swapper(ctx)
	if err != nil {
		return err
	}
	i.out.begin("resume")
	rep, err := s.Resume(ctx)
	if errors.Is(err, abswap.ErrNothingToDo) {
		i.out.line("nothing is unfinished")
		return err
	}
	if err := ended(rep, err); err != nil {
		return err
	}
	i.out.end("slot %s serves", rep.To)
	return nil
}

// status tells what is where.
func (i *installer) status(ctx context.Context) error {
	s, _, err := i.swapper(ctx)
	if err != nil {
		return err
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	if st.Owner != nil {
		i.out.line("a deploy is running: process %d of %s, since %s", st.Owner.PID, st.Owner.User, st.Owner.Since)
	}
	for _, slot := range st.Slots {
		serves, fit := "idle", "fit"
		if slot.Part > 0 {
			serves = "serves"
		}
		if slot.Ready != "" {
			fit = "not fit: " + slot.Ready
		}
		i.out.line("slot %-6s %-8s %-7s %d requests, %s", slot.Name, slot.State.Release, serves, slot.Load.Requests, fit)
	}
	for _, p := range st.Problems {
		i.out.line("problem: %s", p)
	}
	return nil
}

// remove takes away what setup has made. The version that serves stays, in the one site that was there before; it must be in the first slot.
func (i *installer) remove(ctx context.Context) error {
	s, slots, err := i.swapper(ctx)
	if err != nil {
		return err
	}
	active, err := s.Switcher.Active(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if active != slots[0].Name() {
		return fmt.Errorf("%w: slot %q serves, and what is left in the end is slot %q: deploy once more, or go back", errRefused, active, slots[0].Name())
	}
	actions, err := i.shape.UndoPlan(ctx)
	if err != nil {
		return err
	}
	for _, a := range actions {
		i.out.line("  %s", a.What)
		i.out.line("      %s", a.Command)
	}
	if err := i.shape.Undo(ctx); err != nil {
		return err
	}
	i.out.line("removed: site %q is as it was, with the version that served last", i.site)
	return nil
}
