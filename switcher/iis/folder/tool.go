package folder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// ToolError says how a tool failed.
type ToolError struct {
	Tool    string   // "robocopy"
	Command string   // the whole command line, secrets masked
	Exit    uint32   // exit code; 0 if it did not start, or was ended
	Meaning string   // of the exit code, where it has one
	Codes   []string // error codes in the output: "ERROR_FILE_IN_USE"
	Output  string   // the end of what it wrote, secrets masked
	Err     error    // why it did not start or was ended; nil: it ended with Exit
}

func (e *ToolError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.Tool)
	if e.Err == nil {
		fmt.Fprintf(&b, "exit code %d", int32(e.Exit))
		if e.Meaning != "" {
			fmt.Fprintf(&b, " (%s)", e.Meaning)
		}
	}
	if len(e.Codes) > 0 {
		fmt.Fprintf(&b, ", %s", strings.Join(e.Codes, ", "))
	}
	fmt.Fprintf(&b, " of %s", e.Command)
	if out := strings.Join(strings.Fields(e.Output), " "); out != "" {
		fmt.Fprintf(&b, ": %q", out)
	}
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", b.String(), e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ToolError) Unwrap() error { return e.Err }

// defaultOutput is how much of a tool's output is kept.
const defaultOutput = 8 << 10

// command is one run of a tool.
type command struct {
	tool    string
	path    string
	args    []string // as the tool shall see them
	line    string   // the command line on Windows, for a tool that does not follow the rules; "": made of path and args
	secrets []string
	keep    int           // bytes of output; 0: defaultOutput
	timeout time.Duration // 0: none
}

// run runs the tool and returns how it ended. An error is a *ToolError: it was not started, or ctx ended. At return neither it nor what it
// has started runs any more, and the output is complete.
func (c command) run(ctx context.Context) (exit uint32, output string, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, "", c.fail(0, "", err)
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("not done after %s: %w", c.timeout, context.DeadlineExceeded))
		defer cancel()
	}
	// On Linux the tool gets a signal when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := &tail{most: c.keep}
	if out.most <= 0 {
		out.most = defaultOutput
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, "", c.fail(0, "", err)
	}
	cmd := exec.Command(c.path, c.args...)
	cmd.Stdout, cmd.Stderr = write, write
	tree, err := startTree(cmd, c.line)
	_ = write.Close() // the tool has its own
	if err != nil {
		return 0, "", c.fail(0, "", multi.Join(err, read.Close()))
	}
	var work sync.WaitGroup
	work.Go(func() { _, _ = io.Copy(out, read) }) // until nobody has the other end any more
	exited := make(chan struct{})
	var killErr error
	work.Go(func() {
		select {
		case <-exited:
		case <-ctx.Done():
			killErr = tree.kill()
		}
	})
	werr := cmd.Wait()
	close(exited)
	endErr := tree.end()                                                    // also what it left behind, which may hold the output
	stranger := time.AfterFunc(10*time.Second, func() { _ = read.Close() }) // who was let out of the tree
	work.Wait()
	stranger.Stop()
	_ = read.Close()
	text := mask(out.text(), c.secrets)
	_, refused := errors.AsType[*exec.ExitError](werr)
	switch {
	case werr != nil && ctx.Err() != nil:
		return 0, text, c.fail(0, text, multi.Join(context.Cause(ctx), killErr, endErr))
	case werr != nil && !refused, endErr != nil:
		return 0, text, c.fail(0, text, multi.Join(werr, endErr))
	}
	return uint32(cmd.ProcessState.ExitCode()), text, nil
}

func (c command) fail(exit uint32, output string, err error) *ToolError {
	return &ToolError{Tool: c.tool, Command: c.text(), Exit: exit, Output: output, Err: err}
}

// text is the command for people, secrets masked.
func (c command) text() string {
	line := c.line
	if line == "" {
		quoted := []string{quoteArg(c.path)}
		for _, a := range c.args {
			quoted = append(quoted, quoteArg(a))
		}
		line = strings.Join(quoted, " ")
	}
	return mask(line, c.secrets)
}

// quoteArg quotes for the eye what would not be one word.
func quoteArg(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\"") {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}

// mask replaces secrets, the longest first.
func mask(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	most int

	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.most; over > t.most { // not at each write
		t.buf, t.cut = append(t.buf[:0:0], t.buf[over:]...), true
	}
	return len(p), nil
}

// text returns the end. Where something was cut off it begins with a whole line, so that no half secret stands there.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if over := len(b) - t.most; over > 0 {
		b, t.cut = b[over:], true
	}
	if t.cut {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return strings.ToValidUTF8(string(b), "?")
}
