package proc

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
)

var (
	procAttachConsole = kernel32.NewProc("AttachConsole")
	procFreeConsole   = kernel32.NewProc("FreeConsole")
)

// console guards the one console that a process can be attached to.
var console sync.Mutex

// breakTime is how long the helper may take that sends a CTRL_BREAK.
const breakTime = 30 * time.Second

// Interrupt asks the main process and its process group to end: CTRL_BREAK on their console. It returns os.ErrProcessDone if it does not
// run any more. Only a process on the same console can send that. If this process has none, as a service has none, it goes to that one
// for the moment. Leaving its own would close it, so else a helper does it: a hidden PowerShell, which every Windows has and which
// takes a second. The error says why it could not be sent.
func (t Tree) Interrupt(ctx context.Context) error {
	return withProcess(t.Main, 0, func(windows.Handle) error { // while the handle is open, nobody else gets the pid
		done, err := breakHere(t.Main.PID)
		if done {
			return err
		}
		return breakByHelper(ctx, t.Main.PID)
	})
}

// breakHere sends a CTRL_BREAK to the group of pid from this process, if it has no console.
func breakHere(pid int) (done bool, err error) {
	console.Lock()
	defer console.Unlock()
	if r, _, err := procAttachConsole.Call(uintptr(pid)); r == 0 {
		if errors.Is(err, windows.ERROR_ACCESS_DENIED) { // it has one
			return false, nil
		}
		return true, os.NewSyscallError("AttachConsole", err)
	}
	err = os.NewSyscallError("GenerateConsoleCtrlEvent", windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(pid)))
	if r, _, ferr := procFreeConsole.Call(); r == 0 {
		err = multi.Join(err, os.NewSyscallError("FreeConsole", ferr))
	}
	return true, err
}

const breakScript = `$ErrorActionPreference = 'Stop'
$k = Add-Type -PassThru -Name Console -Namespace Abswap -MemberDefinition @'
[DllImport("kernel32.dll", SetLastError=true)] public static extern bool FreeConsole();
[DllImport("kernel32.dll", SetLastError=true)] public static extern bool AttachConsole(uint pid);
[DllImport("kernel32.dll", SetLastError=true)] public static extern bool GenerateConsoleCtrlEvent(uint e, uint group);
'@
[void]$k::FreeConsole()
if (-not $k::AttachConsole(PID)) { exit 41 }
if (-not $k::GenerateConsoleCtrlEvent(1, PID)) { exit 42 }
exit 40
`

// helperSent is what the helper exits with when it has sent it; 0 would be what a PowerShell says that does nothing.
const helperSent = 40

func breakByHelper(ctx context.Context, pid int) error {
	sys, err := windows.GetSystemDirectory()
	if err != nil {
		return os.NewSyscallError("GetSystemDirectory", err)
	}
	ctx, cancel := context.WithTimeout(ctx, breakTime)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(sys, `WindowsPowerShell\v1.0\powershell.exe`), "-NoLogo", "-NoProfile", "-NonInteractive",
		"-EncodedCommand", encoded(strings.ReplaceAll(breakScript, "PID", strconv.Itoa(pid))))
	c.SysProcAttr = &windows.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
	out, err := c.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == helperSent {
		return nil
	}
	return fmt.Errorf("CTRL_BREAK to process %d: the helper said %v %q: %w", pid, err, out, errNotSent)
}

// encoded returns script as PowerShell wants it on a command line: UTF-16, lower byte first, in base64.
func encoded(script string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(script)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return base64.StdEncoding.EncodeToString(b)
}

var errNotSent = errors.New("it was not sent")
