package abswap

import (
	"io/fs"
	"os"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
)

// journalDisk is what a FileJournal does to the files of its swaps. Tests put one that fails in its place.
type journalDisk interface {
	// create makes the file at path with its first line: at return it is on the disk; there is never a part of it.
	create(path string, line []byte) error
	open(path string) (journalFile, error) // for appending
	truncate(path string, size int64) error
}

// journalFile is a file that grows.
type journalFile interface {
	Write(line []byte) (int, error)
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

// disk is the real one.
type disk struct{}

func (disk) create(path string, line []byte) error { return atomicfile.Write(path, line, filePerm) }

func (disk) open(path string) (journalFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, filePerm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (disk) truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, filePerm) // on Windows a file that is open for appending cannot be cut
	if err != nil {
		return err
	}
	return multi.Join(f.Truncate(size), f.Sync(), f.Close())
}
