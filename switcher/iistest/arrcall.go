package iistest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// arrRequest is a line that the script for ARR's runtime methods reads.
type arrRequest struct {
	ID     int64  `json:"id"`
	Call   string `json:"call"`
	Farm   string `json:"farm"`
	Server string `json:"server"`
	State  string `json:"state"`
	Pool   string `json:"pool"`
}

// arrAnswer is a line that it writes.
type arrAnswer struct {
	ID      int64       `json:"id"`
	OK      bool        `json:"ok"`
	Error   string      `json:"error,omitempty"`
	HResult int64       `json:"hresult,omitempty"`
	Tick    int64       `json:"tick"`
	Balance string      `json:"algorithm,omitempty"`
	Workers []arrWorker `json:"workers"`
	Servers []arrServer `json:"servers"`
}

type arrWorker struct {
	PID   int    `json:"pid"`
	State string `json:"state"`
}

type arrServer struct {
	Address   string `json:"address"`
	Enabled   bool   `json:"enabled"`
	Weight    int64  `json:"weight"`
	State     int    `json:"state"`
	StateName string `json:"stateName"`
	Healthy   bool   `json:"healthy"`
	Current   int64  `json:"current"`
	Sockets   int64  `json:"sockets"`
	Total     int64  `json:"total"`
	Failed    int64  `json:"failed"`
	Reset     int64  `json:"reset"` // tick
}

// spoken is an error in the words of Windows.
type spoken struct{ text string }

func (e *spoken) Error() string { return e.text }

// CallARR answers one line as the PowerShell script does that package arr runs: JSON in, JSON out, without the line end.
func (s *Server) CallARR(_ context.Context, line []byte) ([]byte, error) {
	var q arrRequest
	if err := json.Unmarshal(line, &q); err != nil {
		return nil, fmt.Errorf("emulated ARR: %w", err)
	}
	a := arrAnswer{ID: q.ID}
	if err := s.answerARR(q, &a); err != nil {
		a = arrAnswer{ID: q.ID, Error: err.Error(), HResult: -2147024809} // 0x80070057
	}
	return json.Marshal(a)
}

func (s *Server) answerARR(q arrRequest, a *arrAnswer) error {
	s.mu.Lock()
	elevation, up := s.elevation, s.up
	s.mu.Unlock()
	if elevation != Elevated {
		return &spoken{"Filename: redirection.config Error: Cannot read configuration file due to insufficient permissions"}
	}
	if !up {
		return &spoken{"The service has not been started. (Exception from HRESULT: 0x80070426)"}
	}
	a.OK = true
	switch q.Call {
	case "read":
		return s.readARR(q, a)
	case "setState":
		return s.SetState(q.Farm, q.Server, q.State)
	case "setHealthy":
		return s.SetHealthy(q.Farm, q.Server, true)
	case "setUnhealthy":
		return s.SetHealthy(q.Farm, q.Server, false)
	}
	return fmt.Errorf("call %q is unknown", q.Call)
}

// readARR fills in which worker processes the pool has, and then what the counters say: in this order, as the script does, since a process that
// takes over in between must be one that the answer does not name.
func (s *Server) readARR(q arrRequest, a *arrAnswer) error {
	a.Workers = s.arrWorkers(q.Pool)
	members, err := s.Members(q.Farm)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Tick = time.Now().UnixMilli() // of a machine whose clock goes Scale times as fast
	a.Tick = int64(float64(a.Tick-s.born.UnixMilli()) / s.cfg.Scale)
	f, _ := s.conf.routing.farm(q.Farm)
	if a.Balance = "WeightedRoundRobin"; f.hash {
		a.Balance = "RequestHash"
	}
	for i, m := range members {
		x := arrServer{Address: m.Address, Healthy: m.Healthy, Current: m.Current, Sockets: m.Sockets, Total: m.Total, Failed: m.Failed,
			StateName: m.State, Reset: a.Tick - m.Reset.Milliseconds(), State: map[string]int{"Active": 0, "Draining": 1, "Inactive": 2}[m.State]}
		if i < len(f.servers) {
			x.Enabled, x.Weight = f.servers[i].enabled, f.servers[i].weight
		}
		if w := s.arrWorker(q.Farm); s.cfg.ARR.FieldNumbers && m.State == "Inactive" && w != nil && s.arrOf(w).member(f.name, m.Address).graceful {
			x.State = 3
		}
		if s.cfg.ARR.NoStateNames {
			x.StateName = ""
		}
		a.Servers = append(a.Servers, x)
	}
	return nil
}

// arrWorkers lists the worker processes of a pool.
func (s *Server) arrWorkers(pool string) []arrWorker {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[strings.ToLower(pool)]
	if p == nil {
		return nil
	}
	var all []arrWorker
	for w := range p.workers {
		if w.state != gone {
			all = append(all, arrWorker{w.pid, map[workerState]string{launching: "Starting", running: "Running", ending: "Stopping"}[w.state]})
		}
	}
	return all
}

// PowerShell makes a real program of the name powershell (powershell.exe on Windows) in the machine's folder: whatever script it is given, it
// speaks the protocol of package arr's on stdin and stdout, against this machine. It is a copy of the running program, which must call Main.
func (s *Server) PowerShell() (string, error) {
	c, err := s.controlled()
	if err != nil {
		return "", fmt.Errorf("emulated PowerShell: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("emulated PowerShell: %w", err)
	}
	to := filepath.Join(filepath.Dir(c.path), powerShellName)
	if runtime.GOOS == "windows" {
		to += ".exe"
	}
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if err := copyProgram(self, to); err != nil {
		return "", fmt.Errorf("emulated PowerShell: %w", err)
	}
	return to, nil
}

const powerShellName = "powershell"

// powerShell is the process: it hands each line to the machine, and the answer back.
func powerShell(w wiring) error {
	conn, err := net.DialTimeout("tcp", w.Address, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends next
	if err := json.NewEncoder(conn).Encode(call{Token: w.Token, Script: true}); err != nil {
		return err
	}
	if _, err := io.WriteString(os.Stdout, `{"ready":1}`+"\n"); err != nil {
		return err
	}
	in, answers := bufio.NewReader(os.Stdin), bufio.NewReader(conn)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(line); err != nil {
			return err
		}
		answer, err := answers.ReadBytes('\n')
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(answer); err != nil {
			return err
		}
	}
}

// serveScript answers the lines of one such process, until it ends.
func (c *control) serveScript(conn net.Conn, in *bufio.Reader) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		answer, err := c.s.CallARR(c.s.ctx, line)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(answer, '\n')); err != nil {
			return
		}
	}
}
