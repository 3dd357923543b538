package abswap

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
)

// checkSize is how much Check writes: a few records' worth.
const checkSize = 64 << 10

// Check implements Checker: it finds a folder that is gone, cannot be written or is full, and a newest swap that cannot be read. It warns of
// a file system on which locks cannot be relied on, and of permissions that let others write, or read, the journal. For a moment it puts a
// file into the folder.
func (j *FileJournal) Check(ctx context.Context, _ CheckRequest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	info, err := os.Stat(j.dir)
	if err != nil {
		return fmt.Errorf("the journal's folder: %w; make it, or set another, before you deploy", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the journal's folder: %q is not a folder", j.dir)
	}
	return multi.Join(j.writable(), j.readable(ctx), j.lockable(), j.private(info))
}

// writable tries it.
func (j *FileJournal) writable() error {
	f, err := os.CreateTemp(j.dir, ".check.*.tmp")
	if err != nil {
		return fmt.Errorf("the journal cannot be written: %w", err)
	}
	_, err = f.Write(make([]byte, checkSize))
	if err == nil {
		err = f.Sync()
	}
	if err = multi.Join(err, f.Close()); err != nil {
		err = diskError("the journal cannot be written: trying", f.Name(), err)
	}
	return multi.Join(err, os.Remove(f.Name()))
}

// readable reads the newest swap, which the next deploy begins with.
func (j *FileJournal) readable(ctx context.Context) error {
	files, err := j.files()
	if err != nil || len(files) == 0 {
		return err
	}
	_, err = j.read(ctx, files[len(files)-1])
	return err
}

func (j *FileJournal) lockable() error {
	kind, err := filelock.Remote(j.dir)
	if err != nil {
		return Warnf("it cannot be told on which kind of file system the journal %q lies: %w", j.dir, err)
	}
	if kind != "" {
		return Warnf("the journal %q lies on %s, where locks may not keep two deploys apart: put it on a local disk", j.dir, kind)
	}
	return nil
}

func (j *FileJournal) private(info os.FileInfo) error {
	if wide := info.Mode().Perm() & 0o077; wide != 0 && runtime.GOOS != "windows" {
		return Warnf("the journal's folder %q has the permissions %s: others can read it, or do more; chmod 700 it", j.dir, info.Mode().Perm())
	}
	return nil
}
