package process

import (
	"os"

	"golang.org/x/sys/windows"
)

const ( // access rights to a folder, from winnt.h
	fileAddFile         = 0x2
	fileAddSubdirectory = 0x4
)

// writable returns nil if files can be made in the folder dir.
func writable(dir string) error {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(name, fileAddFile|fileAddSubdirectory,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return os.NewSyscallError("CreateFile", err)
	}
	return windows.CloseHandle(h)
}
