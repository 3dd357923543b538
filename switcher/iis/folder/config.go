package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
)

// Config says where releases are installed and how.
type Config struct {
	Parent string // folder in which the releases' folders lie, an absolute path: `C:\inetpub`; required, must exist
	Name   string // what their names begin with: "MySite" makes MySite.v1085; required: letters, digits and _ + - . and blanks

	// Copy copies the files. nil: the copying built in. Robocopy and WebDeploy are others.
	Copy Copier

	// Volatile are paths below a folder to which the application itself writes, with slashes: "logs", "App_Data". What is there is
	// installed once and not compared later.
	Volatile []string

	MinFree  int64         // bytes that stay free on the disk behind a copy; 0: 64 MiB, negative: none
	Wait     time.Duration // for another process that installs or prunes here; 0: as long as the context, negative: not at all
	Patience time.Duration // for a file that a virus scanner or another program has open; 0: 10s, negative: none
	Limits   Limits        // what Check holds web.config against

	// OnProgress is told how far an installation is, in order and never twice at once. It returns soon and calls nothing
	// of the Installer. nil: nobody is.
	OnProgress func(Progress)

	// Free tells how many bytes are free for this user on the disk of a folder. nil: the system's answer; where that has none
	// (errors.ErrUnsupported) space is not checked.
	Free func(dir string) (int64, error)
}

// Step is what an installation is doing.
type Step string

// The steps of an installation, in their order.
const (
	StepWait   Step = "waiting"   // for another process
	StepScan   Step = "scanning"  // the source
	StepCopy   Step = "copying"   // counted in Files and Bytes
	StepVerify Step = "verifying" // the copy, or a folder that is there already; counted too
	StepFinish Step = "finishing" // naming the folder
)

// Progress says how far an installation is.
type Progress struct {
	Step        Step
	Files, Of   int   // files done in this step, and of how many; 0 of 0: not counted
	Bytes, Full int64 // bytes done in this step, and of how many
}

// A Copier copies all that is in the folder from into the folder to, which exists and is empty; both are absolute paths. It need not flush.
// When it returns, also with an error or because ctx ended, nothing works on either folder any more.
type Copier interface {
	Copy(ctx context.Context, from, to string) error
}

// Installer installs releases into folders of their own. It is safe for concurrent use, and for use by several processes at once.
type Installer struct {
	cfg Config
	mu  sync.Mutex // held while OnProgress is called
}

// New checks cfg and returns an Installer. It touches nothing. The error tells all mistakes.
func New(cfg Config) (*Installer, error) {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf("folder.Config: "+format, args...)) }
	switch {
	case cfg.Parent == "":
		add("Parent is empty: set the folder in which the releases' folders lie")
	case !filepath.IsAbs(cfg.Parent):
		add("Parent %q is not an absolute path", cfg.Parent)
	default:
		cfg.Parent = filepath.Clean(cfg.Parent)
	}
	if err := checkStem(cfg.Name); err != nil {
		add("Name: %w", err)
	}
	for n, v := range cfg.Volatile {
		clean := path.Clean(v)
		if err := checkPath(clean); err != nil || strings.Contains(v, `\`) {
			add("Volatile[%d] %q is not a path below the folder, with slashes: %q", n, v, "App_Data/cache")
		}
	}
	if l := cfg.Limits; l.UploadBytes < 0 || l.UploadTime < 0 {
		add("Limits has a negative value: %+v", l)
	}
	if len(errs) > 0 {
		return nil, multi.Join(errs...)
	}
	volatile := make([]string, len(cfg.Volatile))
	for n, v := range cfg.Volatile {
		volatile[n] = fold(path.Clean(v))
	}
	cfg.Volatile = volatile
	if cfg.MinFree == 0 {
		cfg.MinFree = 64 << 20
	}
	cfg.MinFree = max(cfg.MinFree, 0)
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Free == nil {
		cfg.Free = freeBytes
	}
	return &Installer{cfg: cfg}, nil
}

func checkStem(name string) error {
	if name == "" {
		return errors.New("it is empty: set what the folders' names begin with")
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("._+- ", c):
		default:
			return fmt.Errorf("%q: character %q is not one of A-Z a-z 0-9 . _ + - and blank", name, c)
		}
	}
	if strings.ContainsRune(".- ", rune(name[0])) {
		return fmt.Errorf("%q begins with a dot, a dash or a blank", name)
	}
	return CheckName(name)
}

// Path returns the folder of a release, whether it is installed or not. The error says why there can be none.
func (i *Installer) Path(id string) (string, error) {
	p := i.places(id)
	return p.folder, multi.Join(abswap.Release{ID: id}.Check(), p.check())
}

// lock excludes all others who work on the same Parent and Name. The error wraps abswap.ErrBusy if another has the lock for too long.
func (i *Installer) lock(ctx context.Context) (unlock func() error, err error) {
	info, err := os.Stat(i.cfg.Parent)
	if err != nil {
		return nil, fmt.Errorf("the parent of the releases' folders: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("the parent of the releases' folders, %q, is not a folder", i.cfg.Parent)
	}
	file := filepath.Join(i.cfg.Parent, i.cfg.Name+suffixLock)
	f, err := filelock.Try(file, 0o644)
	if errors.Is(err, filelock.ErrHeld) && i.cfg.Wait >= 0 {
		i.progress(Progress{Step: StepWait})
		wait, cancel := ctx, context.CancelFunc(func() {})
		if i.cfg.Wait > 0 {
			wait, cancel = context.WithTimeout(ctx, i.cfg.Wait)
		}
		f, err = filelock.Wait(wait, file, 0o644)
		cancel()
	}
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("%w: another process installs or removes releases of %q in %q: %w", abswap.ErrBusy, i.cfg.Name, i.cfg.Parent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock of the releases' folders: %w", err)
	}
	return f.Close, nil
}

func (i *Installer) progress(p Progress) {
	if i.cfg.OnProgress == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cfg.OnProgress(p)
}
