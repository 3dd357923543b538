package iistest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// wiring is the file beside the program that leads it to its machine.
type wiring struct{ Address, Token string }

const (
	wiringName = "appcmd.iistest"
	envCall    = "ABSWAP_IISTEST_CALL" // names one call, so that its whole exit code can be asked for
)

// call is what the program asks of the machine.
type call struct {
	Token, ID string
	Script    bool // lines of PowerShell follow
	Args      []string
	Stdin     []byte
}

// answer is what the program then prints and exits with.
type answer struct {
	Stdout []byte
	Exit   uint32
}

// Main makes a program able to be appcmd.exe: call it first in main, or in TestMain of a test binary. If the process is a program that
// Executable has made, Main runs the command against the machine that made it and does not return: it exits with the command's exit code, of
// which Unix systems only keep the low eight bits (Process knows the whole). In any other process it does nothing.
func Main() {
	self, err := os.Executable()
	name := strings.TrimSuffix(strings.ToLower(filepath.Base(self)), ".exe")
	if err != nil || name != "appcmd" && name != powerShellName {
		return
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(self), wiringName))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var w wiring
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	var got answer
	switch {
	case err == nil && name == powerShellName:
		err = powerShell(w)
	case err == nil:
		got, err = ask(w)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "emulated appcmd:", err)
		os.Exit(255)
	}
	if _, err := os.Stdout.Write(got.Stdout); err != nil {
		os.Exit(255)
	}
	os.Exit(status(got.Exit))
}

// status is what is left of an exit code on this system; failure stays failure.
func status(exit uint32) int {
	if runtime.GOOS != "windows" && exit > 255 {
		return max(1, int(exit&255))
	}
	return int(exit)
}

// ask sends the process's command to the machine and returns its answer.
func ask(w wiring) (answer, error) {
	var a answer
	c := call{Token: w.Token, ID: os.Getenv(envCall), Args: os.Args[1:]}
	for _, arg := range c.Args {
		if low := strings.ToLower(arg); arg == "-" || len(low) == 3 && low[1:] == "in" {
			in, err := io.ReadAll(os.Stdin)
			if err != nil {
				return a, err
			}
			c.Stdin = in
		}
	}
	conn, err := net.DialTimeout("tcp", w.Address, 10*time.Second)
	if err != nil {
		return a, err
	}
	defer func() { _ = conn.Close() }() // the process ends next
	if err := json.NewEncoder(conn).Encode(c); err != nil {
		return a, err
	}
	return a, json.NewDecoder(conn).Decode(&a)
}

// control takes the calls of programs. It listens on loopback and wants a random token.
type control struct {
	s     *Server
	ln    net.Listener
	token string
	path  string

	mu    sync.Mutex
	exits map[string]uint32
	conns map[net.Conn]struct{}
}

// Executable makes a real program of the name appcmd (appcmd.exe on Windows) in the machine's folder, which runs commands against this
// machine, and returns its path. It is a copy of the running program, which must call Main. Later calls return the same path.
func (s *Server) Executable() (string, error) {
	c, err := s.controlled()
	if err != nil {
		return "", fmt.Errorf("emulated appcmd: %w", err)
	}
	return c.path, nil
}

func (s *Server) controlled() (*control, error) {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	s.mu.Lock()
	c, closed := s.control, s.closed
	s.mu.Unlock()
	if c != nil || closed {
		if closed {
			return nil, ErrClosed
		}
		return c, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := "appcmd"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	c = &control{s: s, token: rand.Text(), path: filepath.Join(s.dir, "inetsrv", name), exits: map[string]uint32{}, conns: map[net.Conn]struct{}{}}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
		return nil, err
	}
	if err := copyProgram(self, c.path); err != nil {
		return nil, err
	}
	if c.ln, err = net.Listen("tcp", net.JoinHostPort(home, "0")); err != nil {
		return nil, err
	}
	data, err := json.Marshal(wiring{c.ln.Addr().String(), c.token})
	if err == nil {
		err = os.WriteFile(filepath.Join(filepath.Dir(c.path), wiringName), data, 0o600)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.closed {
		err = ErrClosed
	}
	if err != nil {
		return nil, multi.Join(err, c.ln.Close())
	}
	s.control = c
	s.wg.Go(c.accept)
	return c, nil
}

// copyProgram puts the running program at another path: a second name for the same file where the system lets a running program's name be
// removed, else a copy.
func copyProgram(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if runtime.GOOS != "windows" && os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return multi.Join(err, out.Close())
}

func (c *control) close() error {
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close() // its handler ends
	}
	c.mu.Unlock()
	return c.ln.Close()
}

func (c *control) accept() {
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conns[conn] = struct{}{}
		c.mu.Unlock()
		c.s.wg.Go(func() {
			c.serve(conn)
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.conns, conn)
		})
	}
}

// serve runs one call. The end of the connection is the end of its process.
func (c *control) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // nothing is left to do about it
	in := bufio.NewReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // a connection that lacks deadlines would only wait longer
	line, err := in.ReadBytes('\n')
	var q call
	if err != nil || json.Unmarshal(line, &q) != nil || subtle.ConstantTimeCompare([]byte(q.Token), []byte(c.token)) != 1 {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	if q.Script {
		c.serveScript(conn, in)
		return
	}
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer cancel()
	var gone sync.WaitGroup
	gone.Go(func() {
		_, _ = in.ReadByte() // ends when the process does, or at our own Close
		cancel()
	})
	out, exit := c.s.Appcmd(ctx, q.Args, q.Stdin)
	if ctx.Err() == nil {
		c.mu.Lock()
		if q.ID != "" {
			c.exits[q.ID] = exit
		}
		c.mu.Unlock()
		_ = json.NewEncoder(conn).Encode(answer{out, exit}) // the process may be gone
	}
	_ = conn.Close()
	gone.Wait()
}

// Run is Appcmd in the shape of a function that runs a program. The error is that of ctx if it ended first.
func (s *Server) Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error) {
	stdout, exit = s.Appcmd(ctx, args, stdin)
	if s.ctx.Err() != nil {
		return nil, 0, ErrClosed
	}
	return stdout, exit, ctx.Err()
}

// Process runs commands as real processes of the program that Executable makes.
type Process struct{ s *Server }

// Process returns a runner that has the same Run as Server, but starts a process for each command.
func (s *Server) Process() Process { return Process{s} }

// Run starts the program, waits for it, and returns what it printed and its whole exit code, also where the system keeps eight bits of it. If
// ctx ends the process is killed; it has gone at return.
func (p Process) Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error) {
	c, err := p.s.controlled()
	if err != nil {
		return nil, 0, fmt.Errorf("emulated appcmd: %w", err)
	}
	id := rand.Text()
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Env = append(os.Environ(), envCall+"="+id)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	c.mu.Lock()
	exit, known := c.exits[id]
	delete(c.exits, id)
	c.mu.Unlock()
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, 0, fmt.Errorf("emulated appcmd: %w", ctx.Err())
	case err != nil && !exited:
		return nil, 0, fmt.Errorf("emulated appcmd: %w", err)
	case !known || cmd.ProcessState.ExitCode() != status(exit) && runtime.GOOS != "windows":
		return nil, 0, fmt.Errorf("emulated appcmd: exit %d: %s", cmd.ProcessState.ExitCode(), complaint.String())
	}
	return out.Bytes(), exit, nil
}
