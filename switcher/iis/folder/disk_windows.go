package folder

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
)

// freeBytes asks what this user may still write.
func freeBytes(dir string) (int64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var mine uint64
	if err := windows.GetDiskFreeSpaceEx(path, &mine, nil, nil); err != nil {
		return 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return int64(min(mine, 1<<62)), nil
}

// moveFolder gives a folder its name, and returns when that is on the disk.
func moveFolder(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(f, t, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// alone returns f opened once more, so that nobody has it open for writing, nor opens it for that until it is closed. f itself is closed.
func alone(f *os.File) (*os.File, error) {
	reopen := windows.NewLazySystemDLL("kernel32.dll").NewProc("ReOpenFile")
	h, _, err := reopen.Call(f.Fd(), windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_DELETE, 0)
	runtime.KeepAlive(f)
	if windows.Handle(h) == windows.InvalidHandle {
		return nil, multi.Join(&os.PathError{Op: "open", Path: f.Name(), Err: err}, f.Close())
	}
	return os.NewFile(h, f.Name()), f.Close()
}

// open tells whether err says that a file is open elsewhere.
func open(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) ||
		errors.Is(err, windows.ERROR_USER_MAPPED_FILE)
}

// openWithin tells whether err may say that of a folder: that "access is denied" is what Windows says where a file in it is open.
func openWithin(err error) bool {
	return open(err) || errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_DIR_NOT_EMPTY)
}
