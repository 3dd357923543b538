//go:build unix

package folder_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func mkfifo(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, unix.Mkfifo(path, 0o600))
}

// commandLine is what Windows would show as one, and then the arguments, one a line. There is none here: the words are put together.
func commandLine() string {
	return `"` + os.Args[0] + `" ` + strings.Join(os.Args[1:], " ") + "\n" + strings.Join(os.Args[1:], "\n")
}

// diesWithUs is how many of a tool and its child die with who started the tool.
var diesWithUs = map[bool]int{true: 1}[runtime.GOOS == "linux"]
