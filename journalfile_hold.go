package abswap

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// lockPatience is how long Lock bears that the journal is locked and nobody is named as its holder: it is just being taken, or given free.
const lockPatience = 2 * time.Second

// fileHold is a FileJournal held for writing.
type fileHold struct {
	j     *FileJournal
	lock  *filelock.File // "lock"
	owner *filelock.File // "owner.json", locked as soon as its content is whole
	token string         // of this hold

	mu       sync.Mutex
	current  *openSwap // the swap written last; nil: none yet
	dead     error     // why nothing more is written; nil: all is well
	unlocked bool
	ended    chan struct{}   // closed by Unlock
	stuck    map[string]bool // requests whose files cannot be removed; only NextRequest's
	taking   sync.Mutex      // one NextRequest takes at a time
}

// openSwap is a swap's file that grows.
type openSwap struct {
	swapFile
	path string
	f    journalFile
	seq  int    // of the last line
	size int64  // of the file
	sum  string // of the last line
}

// Lock implements Journal. It also tidies up after a holder that died: a torn last line is removed, and a RecordNote in that swap tells it;
// requests that were meant for that holder are dropped. A journal whose newest swap is damaged cannot be locked: a *JournalError.
func (j *FileJournal) Lock(ctx context.Context, o Owner) (JournalHold, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	h := &fileHold{j: j, token: rand.Text(), ended: make(chan struct{}), stuck: map[string]bool{}}
	err := h.take(ctx)
	if err == nil {
		err = h.begin(ctx, o)
	}
	if err != nil {
		return nil, multi.Join(err, h.Unlock())
	}
	return h, nil
}

// take gets the lock, or the name of who has it.
func (h *fileHold) take(ctx context.Context) (err error) {
	for end := time.Now().Add(lockPatience); ; {
		if h.lock == nil {
			if h.lock, err = filelock.Try(h.j.path("lock"), filePerm); err != nil && !errors.Is(err, filelock.ErrHeld) {
				return err
			}
		}
		// Also with the lock in hand: who lost its lock file still has this one locked.
		by, held, err := h.j.heldBy(ctx)
		switch {
		case err != nil:
			return err
		case held:
			return &BusyError{Owner: by.Owner}
		case h.lock != nil:
			return nil
		case !time.Now().Before(end):
			return &BusyError{Owner: unknownOwner()}
		}
		if err := retry.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// begin makes the journal ready for writing.
func (h *fileHold) begin(ctx context.Context, o Owner) error {
	if err := h.j.clearRequests(); err != nil {
		return err
	}
	if err := h.publish(ctx, o); err != nil {
		return err
	}
	removeLitter(h.j.dir)
	files, err := h.j.files()
	if err != nil || len(files) == 0 {
		return err
	}
	return h.open(ctx, files[len(files)-1])
}

// publish names o as the holder. It is not flushed to the disk: after a power cut there is no holder.
func (h *fileHold) publish(ctx context.Context, o Owner) error {
	data, err := json.Marshal(heldBy{Owner: o, Hold: h.token})
	if err != nil {
		return err
	}
	if h.owner, err = filelock.Open(h.j.path("owner.json"), filePerm); err != nil {
		return err
	}
	if err := h.owner.SetContent(append(data, '\n')); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	return retry.Do(ctx, retry.Policy{First: time.Millisecond, Max: 20 * time.Millisecond}, func(context.Context) error {
		err := h.owner.TryLock()
		if errors.Is(err, filelock.ErrHeld) { // somebody is just asking whether it is held
			return err
		}
		return retry.Stop(err)
	})
}

// Append implements JournalHold. After any failure to write, or once the lock is lost, nothing more is written until the journal is locked
// again. What a failed write left is cut off; where that fails too, readers take it for a torn line.
func (h *fileHold) Append(ctx context.Context, r Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.unlocked:
		return fmt.Errorf("journal %q is not held any more: %w", h.j.dir, ErrPermanent)
	case h.dead != nil:
		return fmt.Errorf("nothing is written after an earlier failure, until the journal is locked again: %w", h.dead)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if err := checkSwapID(r.Swap); err != nil {
		return err
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	if h.dead = h.append(ctx, r); h.dead == nil {
		h.dead = h.lost() // meanwhile: then the record is there, but others may write too
	}
	return h.dead
}

func (h *fileHold) append(ctx context.Context, r Record) error {
	if err := h.lost(); err != nil {
		return err
	}
	if h.current == nil || h.current.id != r.Swap {
		f, ok, err := h.j.find(r.Swap)
		if err != nil {
			return err
		}
		if !ok {
			return h.create(r)
		}
		if err := h.open(ctx, f); err != nil {
			return err
		}
	}
	return h.write(r)
}

// lost says so if the lock is not ours any more.
func (h *fileHold) lost() error {
	if err := h.lock.Lost(); err != nil {
		return fmt.Errorf("the journal's lock is lost, another process may be writing: %w", err)
	}
	return nil
}

// create begins the file of a new swap with its first record.
func (h *fileHold) create(r Record) error {
	files, err := h.j.files()
	if err != nil {
		return err
	}
	f := swapFile{number: 1, id: r.Swap}
	if n := len(files); n > 0 {
		f.number = files[n-1].number + 1
	}
	r.Seq = 1
	line, sum, err := h.j.format.encode(r.Swap, r)
	if err != nil {
		return err
	}
	path := h.j.path(f.name())
	if err := h.j.disk.create(path, line); err != nil {
		return diskError("beginning", path, err)
	}
	if err := h.use(&openSwap{swapFile: f, path: path, seq: 1, size: int64(len(line)), sum: sum}); err != nil {
		return err
	}
	h.j.prune(append(files, f))
	return nil
}

// open takes up the file of a swap that has begun, and removes a torn last line.
func (h *fileHold) open(ctx context.Context, f swapFile) error {
	text, err := h.j.read(ctx, f)
	if err != nil {
		return err
	}
	path := h.j.path(f.name())
	if text.torn > 0 {
		if err := h.j.disk.truncate(path, text.whole); err != nil {
			return diskError("removing a torn last line of", path, err)
		}
	}
	err = h.use(&openSwap{swapFile: f, path: path, seq: len(text.records), size: text.whole, sum: text.sum})
	if err != nil || text.torn == 0 {
		return err
	}
	note := fmt.Sprintf("a torn last line of %d bytes was removed: its process, or the machine, died while it was being written", text.torn)
	h.j.log.Warn("journal repaired", "swap", f.id, "file", path, "note", note)
	return h.write(Record{Swap: f.id, Time: time.Now().Round(0), Kind: RecordNote, Result: resultWarning, Note: note})
}

// use makes s the swap that is written.
func (h *fileHold) use(s *openSwap) (err error) {
	if s.f, err = h.j.disk.open(s.path); err != nil {
		return err
	}
	err = h.leave()
	h.current = s
	return err
}

// leave closes the current swap's file.
func (h *fileHold) leave() error {
	if h.current == nil {
		return nil
	}
	err := h.current.f.Close()
	h.current = nil
	return err
}

// write adds r to the current swap's file.
func (h *fileHold) write(r Record) error {
	s := h.current
	if err := s.unchanged(); err != nil {
		return err
	}
	r.Seq = s.seq + 1
	line, sum, err := h.j.format.encode(s.sum, r)
	if err != nil {
		return err
	}
	if _, err = s.f.Write(line); err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return multi.Join(diskError("writing", s.path, err), h.j.disk.truncate(s.path, s.size))
	}
	s.seq, s.sum, s.size = r.Seq, sum, s.size+int64(len(line))
	return nil
}

// unchanged makes sure that the file is still the one that was opened, and that nobody else has written to it.
func (s *openSwap) unchanged() error {
	mine, err := s.f.Stat()
	if err != nil {
		return err
	}
	if mine.Size() != s.size {
		return fmt.Errorf("%q has %d bytes and should have %d, somebody else has written to it: %w", s.path, mine.Size(), s.size, ErrPermanent)
	}
	if runtime.GOOS == "windows" { // there nobody can remove or replace a file that is open
		return nil
	}
	there, err := os.Lstat(s.path)
	if err != nil {
		return fmt.Errorf("the journal's file is not there any more: %w", err)
	}
	if !os.SameFile(there, mine) {
		return fmt.Errorf("%q was replaced by another file: %w", s.path, ErrPermanent)
	}
	return nil
}

// diskError says what to do about err.
func diskError(doing, path string, err error) error {
	if atomicfile.Full(err) {
		return fmt.Errorf("%s %q: %w: free space on that disk", doing, path, err)
	}
	return fmt.Errorf("%s %q: %w", doing, path, err)
}

// prune deletes the oldest of files, but for the newest ones that are to be kept. A file that cannot be deleted now is tried again when the
// next swap begins.
func (j *FileJournal) prune(files []swapFile) {
	if j.keep < 1 {
		return
	}
	for len(files) > j.keep {
		if err := os.Remove(j.path(files[0].name())); err != nil {
			j.log.Warn("an old swap stays in the journal", "swap", files[0].id, "err", err)
		}
		files = files[1:]
	}
}

// removeLitter deletes temporary files that a killed process left in dir.
func removeLitter(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > time.Minute { // else it may be in use
			_ = os.Remove(filepath.Join(dir, e.Name())) // tried again at the next Lock
		}
	}
}

// Unlock implements JournalHold.
func (h *fileHold) Unlock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unlocked {
		return nil
	}
	h.unlocked = true
	close(h.ended)
	errs := []error{h.leave()}
	if h.owner != nil { // first, so that nobody is told of a holder who is gone
		errs = append(errs, h.owner.SetContent(nil), h.owner.Close())
	}
	if h.lock != nil {
		errs = append(errs, h.lock.Close())
	}
	return multi.Join(errs...)
}
