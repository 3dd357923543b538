package folder_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func mkfifo(t *testing.T, _ string) { t.Skip("no pipes in folders here") }

// commandLine is the command line as it came, and then the arguments as a C program sees them, one a line.
func commandLine() string {
	return windows.UTF16PtrToString(windows.GetCommandLine()) + "\n" + strings.Join(os.Args[1:], "\n")
}

// diesWithUs is how many of a tool and its child die with who started the tool.
const diesWithUs = 2
