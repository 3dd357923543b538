package appcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Exec runs the real program. Its zero value runs the machine's own appcmd.
type Exec struct {
	Path      string   // "": DefaultPath
	Env       []string // nil: that of this process
	MaxOutput int      // in bytes; more is ErrTruncated; 0: 64 MiB
}

// drain is how long output may stay open after the program has gone, because something it began has it too.
const drain = 5 * time.Second

// Run is Runner.Run. When ctx ends, the program is killed with all it has begun (on Windows: all in its job; on Unix: its process group),
// and has gone when Run returns. A program that ended by itself in that moment is not an error. What it wrote to stderr is only returned
// if it wrote nothing to stdout.
func (e *Exec) Run(ctx context.Context, args []string, stdin []byte) ([]byte, uint32, error) {
	path := e.Path
	if path == "" {
		var err error
		if path, err = DefaultPath(); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrNotStarted, err)
		}
	}
	if ctx.Err() != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNotStarted, context.Cause(ctx))
	}
	most := e.MaxOutput
	if most <= 0 {
		most = 64 << 20
	}
	stdout, stderr := &limited{most: most}, &limited{most: 64 << 10}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = e.Env, stdout, stderr, drain
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	t, err := newTree(cmd)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	defer t.close()
	cmd.Cancel = t.kill
	if err := cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	t.started()
	werr := cmd.Wait()
	if t.wasKilled(cmd.ProcessState) && ctx.Err() != nil {
		return nil, 0, fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	exit, ok := exitCode(cmd.ProcessState)
	var exited *exec.ExitError
	switch {
	case !ok:
		return nil, 0, fmt.Errorf("ended by another hand: %s", cmd.ProcessState)
	case werr == nil, errors.As(werr, &exited), errors.Is(werr, ctx.Err()) && ctx.Err() != nil:
	case errors.Is(werr, exec.ErrWaitDelay):
		return nil, exit, fmt.Errorf("exit code %d, but something that it began kept its output open: %w", exit, ErrTruncated)
	default:
		return nil, exit, fmt.Errorf("exit code %d: %w", exit, werr)
	}
	if stdout.over {
		return nil, exit, fmt.Errorf("exit code %d, over %d bytes of output: %w", exit, most, ErrTruncated)
	}
	if stdout.b.Len() == 0 {
		return stderr.b.Bytes(), exit, nil
	}
	return stdout.b.Bytes(), exit, nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	b    bytes.Buffer
	most int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.most-l.b.Len())
	l.over = l.over || keep < len(p)
	l.b.Write(p[:keep])
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)

func exitCode(s *os.ProcessState) (uint32, bool) {
	if s == nil || !s.Exited() {
		return 0, false
	}
	return uint32(s.ExitCode()), true
}
