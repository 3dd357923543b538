package arr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
)

// request is a line that the script reads.
type request struct {
	ID     int64  `json:"id"`
	Call   string `json:"call"`
	Farm   string `json:"farm"`
	Pool   string `json:"pool,omitempty"`
	Server string `json:"server,omitempty"`
	State  string `json:"state,omitempty"`
}

// answer is a line that it writes.
type answer struct {
	ID        *int64   `json:"id"`
	OK        *bool    `json:"ok"`
	Error     string   `json:"error"`
	HResult   int64    `json:"hresult"`
	Tick      int64    `json:"tick"` // ms
	Algorithm string   `json:"algorithm"`
	Workers   []worker `json:"workers"`
	Servers   []server `json:"servers"`
}

type worker struct {
	PID   int    `json:"pid"`
	State string `json:"state"`
}

// server is a member as ARR has it.
type server struct {
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
	Reset     int64  `json:"reset"` // tick at which the counters began
}

// CallError is what ARR, or IIS below it, said to a runtime call.
type CallError struct {
	Call    string
	Server  string // "": the farm
	Message string // in the language of the machine
	HResult int64
}

func (e *CallError) Error() string {
	s := "runtime call " + e.Call
	if e.Server != "" {
		s += fmt.Sprintf(" of member %q", e.Server)
	}
	s += fmt.Sprintf(": %.500s", strings.Join(strings.Fields(e.Message), " "))
	if e.HResult != 0 {
		s += fmt.Sprintf(" (hresult %08x)", uint32(e.HResult))
	}
	return s
}

// calls makes the runtime calls of one farm.
type calls struct {
	caller     Caller
	farm, pool string
	onCall     func(call string, took time.Duration, err error)
	last       chan int64 // holds the last id
}

func (c *calls) call(ctx context.Context, q request) (answer, error) {
	q.ID = <-c.last + 1
	c.last <- q.ID
	q.Farm = c.farm
	began := time.Now()
	a, err := c.make(ctx, q)
	if c.onCall != nil {
		name := q.Call
		if q.Server != "" {
			name += " " + strconv.Quote(q.Server)
		}
		if q.State != "" {
			name += " " + q.State
		}
		c.onCall(name, time.Since(began), err)
	}
	return a, err
}

func (c *calls) make(ctx context.Context, q request) (answer, error) {
	line, err := ascii(q)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrNotCalled, err)
	}
	text, err := c.caller.Call(ctx, line)
	if err != nil {
		if q.Call != "read" && !errors.Is(err, ErrNotCalled) {
			err = fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
		}
		return answer{}, fmt.Errorf("runtime call %s: %w", q.Call, err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || a.ID == nil || a.OK == nil || *a.ID != q.ID {
		err = fmt.Errorf("runtime call %s, number %d, is answered by %.200q", q.Call, q.ID, text)
		if q.Call != "read" {
			err = fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
		}
		return answer{}, err
	}
	if !*a.OK {
		return answer{}, &CallError{Call: q.Call, Server: q.Server, Message: a.Error, HResult: a.HResult}
	}
	return a, nil
}

// ascii writes q as JSON of ASCII alone, so that no code page between here and the script matters.
func ascii(q request) ([]byte, error) {
	raw, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(raw))
	for _, r := range string(raw) {
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out, nil
}

// state is what a member takes.
type state int

const (
	stateOpen     state = iota // new clients and old
	stateDraining              // clients with its affinity cookie
	stateClosed                // nobody
)

func (s state) String() string { return [...]string{"available", "draining", "unavailable"}[s] }

// order is the runtime method's word for the way to s.
func (s state) order() string { return [...]string{"Start", "Drain", "GracefulStop"}[s] }

// stateOf reads the state by its name, where the schema of the machine gives one, else by number: 2 and 3 are both unavailable, whichever
// source numbers them.
func (x server) stateOf() (state, error) {
	switch strings.ToLower(strings.TrimSpace(x.StateName)) {
	case "active", "available", "start", "started":
		return stateOpen, nil
	case "drain", "draining":
		return stateDraining, nil
	case "inactive", "unavailable", "gracefulstop", "forcefulstop", "stopped":
		return stateClosed, nil
	}
	switch x.State {
	case 0:
		return stateOpen, nil
	case 1:
		return stateDraining, nil
	case 2, 3:
		return stateClosed, nil
	}
	return 0, fmt.Errorf("member %q is in state %d %q, which is not known", x.Address, x.State, x.StateName)
}
