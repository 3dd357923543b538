package folder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Robocopy copies with the tool of that name that every Windows has:
//
//	robocopy FROM TO /E /COPY:DAT /DCOPY:DAT /A-:R /XJ /R:2 /W:1 /NP /NFL /NDL
//
// It copies all subfolders, data, attributes and times, takes the read-only attribute off the copies, and does not follow junctions. It
// deletes nothing. Its exit codes 0 to 7 are success, see RobocopyExit.
type Robocopy struct {
	Path    string        // of robocopy.exe; "": the system's own
	Args    []string      // further ones: "/MT:8", "/XD", `logs`. What they leave out, an Installer misses
	Timeout time.Duration // 0: as long as the context
	Output  int           // how many bytes of the output's end an error carries; 0: 8 KiB
}

// Copy copies. The error is a *ToolError.
func (r Robocopy) Copy(ctx context.Context, from, to string) error {
	c := r.command(from, to)
	exit, output, err := c.run(ctx)
	if err != nil {
		return err
	}
	meaning, ok := RobocopyExit(exit)
	if !ok {
		e := c.fail(exit, output, nil)
		e.Meaning = meaning
		return e
	}
	return nil
}

func (r Robocopy) command(from, to string) command {
	path := r.Path
	if path == "" {
		path = filepath.Join(systemFolder(), "robocopy.exe")
	}
	args := []string{from, to, "/E", "/COPY:DAT", "/DCOPY:DAT", "/A-:R", "/XJ", "/R:2", "/W:1", "/NP", "/NFL", "/NDL"}
	return command{tool: "robocopy", path: path, args: append(args, r.Args...), keep: r.Output, timeout: r.Timeout}
}

// systemFolder is where Windows has its own programs.
func systemFolder() string {
	root := os.Getenv("SystemRoot")
	if root == "" {
		root = `C:\Windows`
	}
	return filepath.Join(root, "System32")
}

// RobocopyExit tells what an exit code of robocopy means, and whether it is success: 0 to 7 are. It is a mask of bits: 1 files were copied,
// 2 there are extra files in the target, 4 something does not match, 8 some could not be copied, 16 it could not work at all.
func RobocopyExit(code uint32) (meaning string, ok bool) {
	if code > 31 {
		return fmt.Sprintf("no exit code of robocopy: %#x", code), false
	}
	if code == 0 {
		return "nothing to copy", true
	}
	var parts []string
	for bit, text := range []string{
		"files were copied", "extra files in the target", "mismatched files or folders", "some files or folders could not be copied",
		"serious error: nothing was copied, for instance because of wrong arguments or missing rights",
	} {
		if code&(1<<bit) != 0 {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, ", "), code < 8
}
