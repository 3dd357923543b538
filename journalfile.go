package abswap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/retry"
)

// FileJournal is a Journal in a folder of its own: what a deploy has done is on the disk before it goes on. OpenJournal makes one. All who
// deploy the same application, on the one machine, share one folder; another application has another.
//
// There is one file for each swap, "0000042-20261122-215612.123-k3fz.jsonl": a number that rises, by which the swaps are ordered even if the
// clock was set back, and the swap's ID. Each line of it is one Record in JSON, and can be read with a pager while the deploy runs. Its last
// field, "sum", is the first 16 hex digits of the SHA-256 of the sum of the line before (of the swap's ID, in the first line), a new line,
// and the line itself up to `,"sum"`: so no line can be changed, moved or dropped unseen, only the last ones. There is no index that could
// say something else than the files.
//
// A line that was being written when its process, or the machine, died is left out by readers, and removed by the next Lock, which writes a
// RecordNote about it. Any other damage is refused with a *JournalError: nothing is deployed then, and the live slot serves on.
//
// The folder holds besides: "lock", which the holder keeps locked; "owner.json", which names the holder and counts only while it is locked
// too; and "requests", where Post leaves its files.
type FileJournal struct {
	dir    string // absolute
	keep   int    // below 1: all
	log    *slog.Logger
	format journalFormat
	disk   journalDisk
}

// JournalOptions are the choices of OpenJournal. The zero value means the default of each.
type JournalOptions struct {
	Keep   int          // swaps kept; older ones are deleted when a new one begins. 0: 50, negative: all
	Logger *slog.Logger // told what was repaired, ignored, or could not be deleted; nil: silent
}

var (
	_ Journal = (*FileJournal)(nil)
	_ Checker = (*FileJournal)(nil)
)

// JournalError says which line of which file of a FileJournal cannot be trusted, and what to do. Nothing of that swap was read then.
// errors.Is(err, ErrPermanent) is true.
type JournalError struct {
	Path string
	Line int // from 1
	Err  error
}

func (e *JournalError) Error() string {
	return fmt.Sprintf("journal %q, line %d: %v", e.Path, e.Line, e.Err)
}

// Unwrap returns Err and ErrPermanent.
func (e *JournalError) Unwrap() []error { return []error{e.Err, ErrPermanent} }

const (
	journalKeeps  = 50 // swaps
	journalSuffix = ".jsonl"
	folderPerm    = 0o700
	filePerm      = 0o600
)

// OpenJournal returns the journal in the folder dir. A folder that does not exist is made, readable for its owner alone; one that exists is
// not looked at before it is used: Check does that. Nothing has to be closed.
func OpenJournal(dir string, o JournalOptions) (*FileJournal, error) {
	if dir == "" {
		return nil, fmt.Errorf("journal without a folder: name one: %w", ErrPermanent)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("journal %q: %w", dir, err)
	}
	if err := makeFolder(abs); err != nil {
		return nil, fmt.Errorf("journal %q: %w", dir, err)
	}
	j := &FileJournal{dir: abs, keep: o.Keep, log: o.Logger, format: formatOfJournals(), disk: disk{}}
	if j.keep == 0 {
		j.keep = journalKeeps
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	return j, nil
}

// makeFolder makes dir and what is missing above it; at return that is on the disk.
func makeFolder(dir string) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%q is not a folder", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if !errors.Is(err, fs.ErrNotExist) || parent == dir {
		return err
	}
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(parent)
}

func (j *FileJournal) path(names ...string) string {
	return filepath.Join(append([]string{j.dir}, names...)...)
}

// swapFile is the file of one swap.
type swapFile struct {
	number int
	id     string
}

func (f swapFile) name() string { return fmt.Sprintf("%07d-%s%s", f.number, f.id, journalSuffix) }

// parseSwapFile is the reverse of name; false for any other file.
func parseSwapFile(name string) (swapFile, bool) {
	digits, rest, _ := strings.Cut(name, "-")
	id, isJournal := strings.CutSuffix(rest, journalSuffix)
	n, err := strconv.Atoi(digits)
	f := swapFile{number: n, id: id}
	return f, isJournal && err == nil && n > 0 && checkSwapID(id) == nil && f.name() == name
}

// checkSwapID makes sure that id can be part of a file's name on every system.
func checkSwapID(id string) error {
	if id == "" || len(id) > 100 {
		return fmt.Errorf("swap ID %q has %d characters, 1 to 100 are allowed: %w", id, len(id), ErrPermanent)
	}
	for _, c := range id {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("swap ID %q: character %q is not one of a-z 0-9 . _ -: %w", id, c, ErrPermanent)
		}
	}
	return nil
}

// files lists the swaps' files, oldest first.
func (j *FileJournal) files() ([]swapFile, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var files []swapFile
	for _, e := range entries {
		if f, ok := parseSwapFile(e.Name()); ok {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b swapFile) int { return a.number - b.number })
	return files, nil
}

// find returns the file of swap; false if there is none.
func (j *FileJournal) find(swap string) (swapFile, bool, error) {
	files, err := j.files()
	if err != nil {
		return swapFile{}, false, err
	}
	i := slices.IndexFunc(files, func(f swapFile) bool { return f.id == swap })
	if i < 0 {
		return swapFile{}, false, nil
	}
	return files[i], true, nil
}

// Swaps implements Journal.
func (j *FileJournal) Swaps(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	files, err := j.files()
	if err != nil {
		return nil, err
	}
	slices.Reverse(files)
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = f.id
	}
	return ids, nil
}

// Records implements Journal. Damage is a *JournalError.
func (j *FileJournal) Records(ctx context.Context, swap string) ([]Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, ok, err := j.find(swap)
	if err != nil || !ok {
		return nil, err
	}
	text, err := j.read(ctx, f)
	if errors.Is(err, fs.ErrNotExist) { // deleted this moment, to make room for a newer one
		return nil, nil
	}
	return text.records, err
}

// read returns what f holds. It may be called while another process writes: what looks damaged is read again, and refused only if
// it stays so.
func (j *FileJournal) read(ctx context.Context, f swapFile) (journalText, error) {
	path := j.path(f.name())
	var before []byte
	for try := 0; ; try++ {
		data, err := atomicfile.Read(path)
		if err != nil {
			return journalText{}, err
		}
		text, err := j.format.parse(path, f.id, data)
		if err == nil || try > 0 && bytes.Equal(before, data) {
			return text, err
		}
		before = data
		if serr := retry.Sleep(ctx, 10*time.Millisecond); serr != nil {
			return journalText{}, serr
		}
	}
}

// heldBy is the content of owner.json.
type heldBy struct {
	Owner
	Hold string `json:"hold"` // names the one hold, so that a request meant for another does not reach it
}

// Owner implements Journal.
func (j *FileJournal) Owner(ctx context.Context) (Owner, bool, error) {
	by, held, err := j.heldBy(ctx)
	return by.Owner, held, err
}

// heldBy reads owner.json if its lock says that its writer lives.
func (j *FileJournal) heldBy(ctx context.Context) (heldBy, bool, error) {
	path := j.path("owner.json")
	for range 100 {
		if ctx.Err() != nil {
			return heldBy{}, false, context.Cause(ctx)
		}
		held, err := filelock.Held(path)
		if err != nil || !held {
			return heldBy{}, false, err
		}
		data, err := atomicfile.Read(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return heldBy{}, false, err
		}
		var by heldBy
		if json.Unmarshal(data, &by) == nil && by.Hold != "" {
			return by, true, nil
		}
		if err := retry.Sleep(ctx, 5*time.Millisecond); err != nil { // it is just given free, or taken by the next one
			return heldBy{}, false, err
		}
	}
	return heldBy{Owner: unknownOwner()}, true, nil
}

func unknownOwner() Owner { return Owner{User: "unknown", Host: "unknown"} }
