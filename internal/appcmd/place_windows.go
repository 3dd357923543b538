package appcmd

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// DefaultPath returns where this machine has appcmd.exe. fs.ErrNotExist if it is not there: it comes with the feature IIS Management
// Scripts and Tools. Elsewhere than on Windows: errors.ErrUnsupported.
func DefaultPath() (string, error) {
	dir, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return "", os.NewSyscallError("GetSystemWindowsDirectory", err)
	}
	var redirected bool
	if err := windows.IsWow64Process(windows.CurrentProcess(), &redirected); err != nil {
		return "", os.NewSyscallError("IsWow64Process", err)
	}
	path := place(dir, redirected)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("install IIS with its management scripts and tools: %w", err)
	}
	return path, nil
}

// DefaultLock returns the path of the lock file that all programs on this machine share, and makes its folder.
func DefaultLock() (string, error) {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, windows.KF_FLAG_DEFAULT)
	if err != nil {
		return "", fmt.Errorf("folder of program data: %w", err)
	}
	dir := filepath.Join(data, "abswap")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return filepath.Join(dir, "appcmd.lock"), nil
}
