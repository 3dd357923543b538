package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap"
)

// fleet is four machines behind two HAProxys.
type fleet struct {
	self      string // the program that is tool and node
	dir       string // of site.json and the journal
	out       io.Writer
	nodes     []*machine
	balancers []*balancer
}

// machine is a node's process.
type machine struct {
	nodeAddress
	program *exec.Cmd
	stdin   io.Closer
}

func startFleet(ctx context.Context, self string, out io.Writer) (f *fleet, err error) {
	f = &fleet{self: self, out: out}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.dir, err = os.MkdirTemp("", "fleet"); err != nil {
		return f, err
	}
	var s site
	for i := range 4 {
		m, err := startMachine(self, fmt.Sprintf("n%d", i+1))
		if err != nil {
			return f, err
		}
		f.nodes = append(f.nodes, m)
		s.Nodes = append(s.Nodes, m.nodeAddress)
	}
	for _, name := range []string{"lb1", "lb2"} {
		b, err := startBalancer(ctx, name, s.Nodes)
		if err != nil {
			return f, err
		}
		f.balancers = append(f.balancers, b)
		s.Balancers = append(s.Balancers, b.door())
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return f, err
	}
	return f, os.WriteFile(filepath.Join(f.dir, "site.json"), text, 0o600)
}

// startMachine starts a node, which tells where it is reached.
func startMachine(self, name string) (*machine, error) {
	m := &machine{program: exec.Command(self, "node", name)}
	m.program.Stderr = os.Stderr
	out, err := m.program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if m.stdin, err = m.program.StdinPipe(); err != nil {
		return nil, err
	}
	if err := m.program.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &m.nodeAddress)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node %s: %w", name, err), m.stop())
	}
	return m, nil
}

// stop ends the node, which ends when its input does.
func (m *machine) stop() error {
	_ = m.stdin.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = m.program.Process.Kill() })
	defer late.Stop()
	if err := m.program.Wait(); err != nil {
		return fmt.Errorf("node %s: %w", m.Name, err)
	}
	return nil
}

func (f *fleet) close() error {
	var errs []error
	for _, b := range f.balancers {
		errs = append(errs, b.Stop())
	}
	for _, m := range f.nodes {
		errs = append(errs, m.stop())
	}
	if f.dir != "" {
		errs = append(errs, os.RemoveAll(f.dir))
	}
	return errors.Join(errs...)
}

func (f *fleet) fronts() []string {
	var all []string
	for _, b := range f.balancers {
		all = append(all, b.Front)
	}
	return all
}

// tool runs the deploy tool as a process, with one more variable in its environment. The error is an *exec.ExitError if it did not go well.
func (f *fleet) tool(ctx context.Context, env string, args ...string) error {
	c := exec.CommandContext(ctx, f.self, args...)
	c.Env = append(os.Environ(), env)
	c.Stdout, c.Stderr = f.out, f.out
	return c.Run()
}

// states tells what each node runs: "n1 v2, n2 v2, n3 v1 (stopped)".
func (f *fleet) states(ctx context.Context) (string, error) {
	var all []string
	for _, m := range f.nodes {
		state, err := newMember(m.nodeAddress).Inspect(ctx)
		if err != nil {
			return "", err
		}
		all = append(all, m.Name+" "+text(state))
	}
	return strings.Join(all, ", "), nil
}

func text(s abswap.SlotState) string {
	if !s.Running {
		return s.Release + " (stopped)"
	}
	return s.Release
}
