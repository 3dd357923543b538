package arr

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Caller hands one line of JSON to the script that makes ARR's runtime calls, and returns the line that it answers, both without line end. The
// protocol stands in the script's own comment. If the error wraps ErrNotCalled nothing has happened; else that is not known.
type Caller interface {
	Call(ctx context.Context, line []byte) (answer []byte, err error)
}

// ErrNotCalled says that a runtime call was not made.
var ErrNotCalled = errors.New("the runtime call was not made")

// errClosed is what a shell says after close.
var errClosed = errors.New("it is closed")

// shell is the script in a PowerShell that lives from the first call on. One that does not answer in time, dies, or says what it should not is
// ended, and the next call begins another.
type shell struct {
	path    string        // of powershell.exe
	timeout time.Duration // of one call
	start   time.Duration // from the start of the process until it is ready
	turn    chan struct{} // holds one token: whoever has it may call
	now     *process      // nil: none runs
	closed  bool
}

func newShell(path string, timeout time.Duration) *shell {
	if path == "" {
		path = filepath.Join(os.Getenv("SystemRoot"), "System32", "WindowsPowerShell", "v1.0", "powershell.exe")
	}
	s := &shell{path: path, timeout: timeout, start: 2 * timeout, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Call makes one call. When ctx ends first the process is ended.
func (s *shell) Call(ctx context.Context, line []byte) ([]byte, error) {
	if bytes.ContainsAny(line, "\r\n") {
		return nil, fmt.Errorf("%w: a request is one line", ErrNotCalled)
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotCalled, context.Cause(ctx))
	}
	if s.closed {
		return nil, fmt.Errorf("%w: %w", ErrNotCalled, errClosed)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotCalled, context.Cause(ctx))
	}
	if s.now != nil && s.now.ended() { // since the last call
		_ = s.now.end() // why, nobody asked
		s.now = nil
	}
	if s.now == nil {
		p, err := begin(ctx, s.path, s.start)
		if err != nil {
			return nil, fmt.Errorf("%w: PowerShell %q: %w", ErrNotCalled, s.path, err)
		}
		s.now = p
	}
	answer, err := s.now.ask(ctx, line, s.timeout)
	if err == nil {
		err = belongs(answer, line)
	}
	if err != nil {
		err = s.now.because(err)
		s.now = nil
		return nil, fmt.Errorf("PowerShell %q: %w", s.path, err)
	}
	return answer, nil
}

// belongs refuses an answer that is not to that request: who is out of step stays so.
func belongs(answer, line []byte) error {
	var q, a struct {
		ID *int64 `json:"id"`
	}
	err := json.Unmarshal(answer, &a)
	if qerr := json.Unmarshal(line, &q); err != nil || qerr != nil || a.ID == nil || q.ID == nil || *a.ID != *q.ID {
		return fmt.Errorf("it says %.200q to request %.200q", answer, line)
	}
	return nil
}

// close ends the process, once a call that is being made has ended, and waits for it.
func (s *shell) close() error {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	s.closed = true
	if s.now == nil {
		return nil
	}
	err := s.now.finish()
	s.now = nil
	return err
}

// process is one PowerShell.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	lines  chan []byte   // what it prints
	done   chan struct{} // closed when its stdout has ended
	quit   chan struct{} // closed when nobody reads lines any more
	err    tail
}

// maxAnswer is the longest line that an answer may be.
const maxAnswer = 4 << 20

// begin starts a process and waits until it is ready.
func begin(ctx context.Context, path string, limit time.Duration) (*process, error) {
	p := &process{cmd: exec.Command(path, arguments()...), lines: make(chan []byte), done: make(chan struct{}), quit: make(chan struct{})}
	p.cmd.Stderr = &p.err
	p.cmd.WaitDelay = 2 * time.Second
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.read()
	hello, err := p.next(ctx, limit)
	if err == nil {
		err = ready(hello)
	}
	if err != nil {
		return nil, p.because(err)
	}
	return p, nil
}

// ready reads the first line.
func ready(hello []byte) error {
	var h struct {
		Ready int    `json:"ready"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(hello, &h); err != nil {
		return fmt.Errorf("it says %.200q at first, not that it is ready", hello)
	}
	if h.Ready != 1 {
		return fmt.Errorf("the script cannot work: %.500s", h.Error)
	}
	return nil
}

// read hands on what the process prints, until it ends.
func (p *process) read() {
	defer close(p.done)
	in := bufio.NewScanner(p.stdout)
	in.Buffer(nil, maxAnswer)
	for in.Scan() {
		select {
		case p.lines <- bytes.TrimSuffix(bytes.Clone(in.Bytes()), []byte("\r")):
		case <-p.quit:
			return
		}
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// next returns the next line.
func (p *process) next(ctx context.Context, limit time.Duration) ([]byte, error) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case line := <-p.lines:
		return line, nil
	case <-p.done:
		return nil, errEnded
	case <-t.C:
		return nil, fmt.Errorf("no answer in %s: %w", limit, context.DeadlineExceeded)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask writes a line and returns the answer. The writing ends with the time too: a process that reads nothing blocks it.
func (p *process) ask(ctx context.Context, line []byte, limit time.Duration) ([]byte, error) {
	written := make(chan error, 1)
	go func() {
		_, err := p.stdin.Write(append(bytes.Clone(line), '\n'))
		written <- err
	}()
	answer, err := p.next(ctx, limit)
	if err != nil {
		_ = p.kill() // which ends the writing too; whether it has gone end tells
	}
	if werr := <-written; werr != nil && err == nil {
		err = fmt.Errorf("it answers what it has not read: %w", werr)
	}
	return answer, err
}

// finish lets the process end by itself, which it does when its stdin ends, and ends it if it does not.
func (p *process) finish() error {
	if err := p.stdin.Close(); err != nil {
		return multi.Join(err, p.end())
	}
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
	return p.end()
}

// kill ends the process.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// end ends the process, if it has not, and waits for all that belongs to it.
func (p *process) end() error {
	err := p.kill()
	close(p.quit)
	_ = p.stdout.Close() // the reader ends, also where a child of the process lives on
	<-p.done
	_ = p.cmd.Wait() // it was killed: how it ended says nothing
	if p.cmd.ProcessState != nil {
		return nil // it has gone; one that goes by itself Windows refuses to kill: access is denied
	}
	return err
}

// errEnded is a process that has ended by itself.
var errEnded = errors.New("it has ended")

// because ends the process, and adds to err what it has said on stderr if it had ended by itself.
func (p *process) because(err error) error {
	kerr := p.end() // after it, all that was said has been read
	if errors.Is(err, errEnded) {
		err = fmt.Errorf("%w: %s", err, p.err.text())
	}
	return multi.Join(err, kerr)
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	data []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if n := len(t.data) - 500; n > 0 {
		t.data = append(t.data[:0], t.data[n:]...)
	}
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.data) == 0 {
		return "it says nothing on stderr"
	}
	return strings.ToValidUTF8(strings.Join(strings.Fields(string(t.data)), " "), "?")
}
