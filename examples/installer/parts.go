package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
	"github.com/abswap/abswap/switcher/iistest"
)

// installer is the library's parts, put together.
type installer struct {
	options
	in  *bufio.Reader
	out *progress
	emu *iistest.Server // nil: the machine is real

	app      *iis.App
	shape    *iis.Setup
	releases *folder.Installer

	onEvent func(abswap.Event) // of the demo, beside the progress; nil: none
}

func newInstaller(o options, in *bufio.Reader, out io.Writer) (_ *installer, err error) {
	i := &installer{options: o, in: in, out: &progress{out: out}}
	server := &iis.Server{} // the IIS of this machine
	if o.emulate != "" {
		if i.emu, server, err = emulate(&i.options); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, i.emu.Close())
			}
		}()
	}
	i.app = &iis.App{
		Server:   server,
		Host:     i.host,
		Mark:     iis.Mark{Path: iisdemo.MarkPath},
		Accept:   iis.Accept{CutOldWork: i.acceptCut},
		OnSwitch: i.out.switched,
	}
	if i.shape, err = iis.NewSetup(iis.SetupConfig{App: i.app, Strategy: i.strategy, Site: i.site, Staging: i.staging}); err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(i.parent, 0o755), os.MkdirAll(i.state, 0o700)); err != nil {
		return nil, err
	}
	i.releases, err = folder.New(folder.Config{Parent: i.parent, Name: i.site, OnProgress: i.out.copied, Volatile: []string{iisdemo.SickFile}})
	return i, err
}

func (i *installer) close() error {
	if i.emu == nil {
		return nil
	}
	return i.emu.Close()
}

// slots returns the two slots. The site must have their shape.
func (i *installer) slots(ctx context.Context) ([]*iis.Slot, error) {
	configs, err := i.shape.SlotConfigs(ctx)
	if err != nil {
		return nil, err
	}
	var all []*iis.Slot
	for _, c := range configs {
		c.Install, c.Release, c.Warm = i.releases.Install, releaseOf, []string{"/"}
		slot, err := iis.NewSlot(c)
		if err != nil {
			return nil, err
		}
		all = append(all, slot)
	}
	return all, nil
}

// before is the release ID of what was there before the first deploy.
const before = "before"

// releaseOf tells which release is in a folder. Before the set-up has run, what is there has no mark.
func releaseOf(dir string) (string, error) {
	id, err := iisdemo.ReleaseOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return before, nil
	}
	return id, err
}

// swapper puts the slots, the strategy's switcher, the drainer and the journal together.
func (i *installer) swapper(ctx context.Context) (*abswap.Swapper, []*iis.Slot, error) {
	slots, err := i.slots(ctx)
	if err != nil {
		return nil, nil, err
	}
	var sw abswap.Switcher
	if i.strategy == iis.StrategyRootSwap {
		sw, err = iis.NewRootSwap(iis.RootSwapConfig{App: i.app, Site: i.site, Slots: slots})
	} else {
		sw, err = iis.NewSiteToggle(iis.SiteToggleConfig{App: i.app, Slots: slots})
	}
	if err != nil {
		return nil, nil, err
	}
	journal, err := abswap.OpenJournal(filepath.Join(i.state, "journal"), abswap.JournalOptions{})
	if err != nil {
		return nil, nil, err
	}
	s := &abswap.Swapper{
		Switcher: sw, Drainer: &iis.Drainer{Slots: slots}, Slots: []abswap.Slot{slots[0], slots[1]}, Journal: journal,
		Drain:   abswap.DrainOptions{Timeout: i.wait}, // what is left then is left to finish, and told
		Retain:  -1,                                   // the old version stays warm, for the way back
		OnEvent: i.event,
	}
	if i.emu != nil { // all is a hundred times faster there
		s.Drain.Quiet, s.Drain.Poll, s.Soak = 300*time.Millisecond, 50*time.Millisecond, 300*time.Millisecond
		s.Timeouts.Start = 3 * time.Second // a version that has not got fit by then will not
	}
	return s, slots, nil
}

func (i *installer) event(e abswap.Event) {
	i.out.event(e)
	if i.onEvent != nil {
		i.onEvent(e)
	}
}
