package framing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Pace is how the bytes are sent.
type Pace int

const (
	Whole      Pace = iota // as few pieces as the connection takes
	ByteByByte             // one a write; of very long vectors the first and the last 2 KiB
)

// Judge sends vectors to a front door and says what went wrong. It is not safe for concurrent use: what reaches Upstream is held against the
// one vector under way.
type Judge struct {
	Address  string // host:port of the front door
	Upstream *Recorder
	Patience time.Duration // for each conversation of one vector; 0: 10s

	Dial func(ctx context.Context) (net.Conn, error) // to the front door; nil: TCP to Address

	seen int // records of Upstream that earlier vectors account for
}

// The two requests of the judge itself: one behind every vector on its connection, one on a connection of its own.
const (
	sentinelTarget = "/behind-the-vector"
	fenceTarget    = "/another-connection"
)

// answer is what the client got.
type answer struct {
	status   int
	recorded int // X-Recorded; -1: the application did not give it
}

// Check sends v and returns an error that tells all that is not as it must be.
//
// Behind the vector, on the same connection, it sends a plain request. That must be answered, as itself, if the vector leaves the connection
// in step, and must reach nobody if the connection is to end. Then it sends one on another connection, which must be answered in any case.
func (j *Judge) Check(ctx context.Context, v Vector, pace Pace) error {
	raw := v.Raw
	if !v.End {
		raw += request("GET "+sentinelTarget+" HTTP/1.1", "Host: judge.test", "")
	}
	answers, ended, err := j.talk(ctx, v, raw, pace)
	if err != nil {
		return err
	}
	var wrong []error
	fence, _, err := j.talk(ctx, Vector{End: true}, request("GET "+fenceTarget+" HTTP/1.1", "Host: judge.test\r\nConnection: close", ""), Whole)
	if err != nil {
		wrong = append(wrong, err)
	} else if len(fence) != 1 || fence[0].status != 200 {
		wrong = append(wrong, fmt.Errorf("a plain request on another connection got %s", describe(fence)))
	}
	if err := j.settle(ctx); err != nil {
		wrong = append(wrong, err)
	}
	first := j.seen
	records := j.Upstream.Records(first)
	j.seen += len(records)
	wrong = append(wrong, judge(v, answers, ended, first, records)...)
	if len(wrong) == 0 {
		return nil
	}
	var seen strings.Builder
	for _, r := range records {
		fmt.Fprintf(&seen, "\n  upstream connection %d, %v: %.400q", r.Conn, r.Err, r.Raw)
	}
	return fmt.Errorf("%s (%s; %s): %w\n  sent: %.400q\n  answers: %s, then %s%s", v.Name, v.Why, v.Want, errors.Join(wrong...), v.Raw,
		describe(answers), ended, seen.String())
}

// End returns an error if something has reached Upstream that no vector accounts for. It is called behind the last one.
func (j *Judge) End(ctx context.Context) error {
	err := j.settle(ctx)
	if late := j.Upstream.Records(j.seen); len(late) > 0 {
		return errors.Join(err, fmt.Errorf("%d requests reached the application behind the last vector, the first: %.400q", len(late), late[0].Raw))
	}
	return err
}

func (j *Judge) settle(ctx context.Context) error {
	ctx, cancel := j.within(ctx)
	defer cancel()
	return j.Upstream.Settle(ctx)
}

func (j *Judge) within(ctx context.Context) (context.Context, context.CancelFunc) {
	patience := j.Patience
	if patience == 0 {
		patience = 10 * time.Second
	}
	return context.WithTimeout(ctx, patience)
}

// judge compares what happened with what v wants. The records are numbered from first on.
func judge(v Vector, answers []answer, ended ending, first int, records []Record) []error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	var whole []Record // of the vector's own
	var numbers []int
	sentinels, parts := []int{}, 0
	for i, r := range records {
		switch {
		case r.Err != nil:
			parts++
			var f *Fault
			if errors.As(r.Err, &f) {
				bad("the application got what is no request: %v", f)
			}
		case r.Target == sentinelTarget && r.Host() == "judge.test":
			sentinels = append(sentinels, first+i)
		case r.Target == fenceTarget && r.Host() == "judge.test":
		default:
			whole, numbers = append(whole, r), append(numbers, first+i)
		}
	}

	want, requests := v.Want, v.Requests
	status := v.Status
	if want == Forwarded && v.Or != nil && len(answers) > 0 && slices.Contains(v.Or, answers[0].status) {
		want, requests, status = BrokenOff, nil, v.Or // the other way of being right
	}
	if want != BrokenOff && parts > 0 {
		bad("%d requests reached the application in part", parts)
	}
	if len(whole) != len(requests) {
		bad("%d whole requests reached the application, not %d", len(whole), len(requests))
	}
	for i := range min(len(whole), len(requests)) {
		if err := requests[i].differs(&whole[i].Message); err != nil {
			bad("request %d: %w", i+1, err)
		}
	}

	// The answers: first those of the requests, each its own.
	if len(answers) < len(requests) {
		bad("%d answers to %d requests", len(answers), len(requests))
		return wrong
	}
	for i := range requests {
		if a := answers[i]; a.status != 200 || i < len(numbers) && a.recorded != numbers[i] {
			bad("answer %d is %s, not that of request %d", i+1, a, i+1)
		}
	}
	rest := answers[len(requests):]
	open := want == Forwarded && !v.Closes && !v.End
	switch {
	case want == Forwarded && open:
		if len(rest) != 1 || rest[0].status != 200 || len(sentinels) != 1 || rest[0].recorded != sentinels[0] {
			bad("the plain request behind it got %s, and reached the application %d times", describe(rest), len(sentinels))
		}
		return wrong
	case want == Forwarded:
		if len(rest) > 0 {
			bad("more answers: %s", describe(rest))
		}
	case len(rest) == 0 && !v.End:
		bad("no answer to what is wrong")
	case len(rest) > 1:
		bad("more than one answer to what is wrong: %s", describe(rest))
	case len(rest) == 1 && !slices.Contains(status, rest[0].status):
		bad("the answer is %s, not one of %d", rest[0], status)
	case len(rest) == 1 && rest[0].recorded >= 0:
		bad("the application answered what is wrong")
	}
	if ended != hungUp {
		bad("the connection goes on")
	}
	if len(sentinels) > 0 {
		bad("what stands behind it was served")
	}
	return wrong
}

// differs says what m has that r does not mean.
func (r Request) differs(m *Message) error {
	var wrong []error
	cmp := func(what, want, got string) {
		if want != got {
			wrong = append(wrong, fmt.Errorf("%s is %.100q, not %.100q", what, got, want))
		}
	}
	cmp("the method", r.Method, m.Method)
	cmp("the target", r.Target, m.Target)
	cmp("the host", r.Host, m.Host())
	cmp("the body", r.Body, m.Body)
	for name, value := range r.Fields {
		if got := m.Values(name); len(got) != 1 || got[0] != value {
			wrong = append(wrong, fmt.Errorf("field %q is %.100q, not %.100q", name, got, value))
		}
	}
	for _, name := range r.Absent {
		if got := m.Values(name); len(got) > 0 && (!strings.EqualFold(name, "Content-Length") || m.Chunked) {
			wrong = append(wrong, fmt.Errorf("field %q is there: %.100q", name, got))
		}
	}
	return errors.Join(wrong...)
}

// ending is what became of a connection.
type ending string

const (
	hungUp ending = "the end of the connection"
	silent ending = "silence"
	inStep ending = "the connection left open"
	garble ending = "what is no answer"
)

// talk sends raw and reads the answers: up to that of the sentinel, or to the connection's end.
func (j *Judge) talk(ctx context.Context, v Vector, raw string, pace Pace) ([]answer, ending, error) {
	ctx, cancel := j.within(ctx)
	defer cancel()
	dial := j.Dial
	if dial == nil {
		dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", j.Address) }
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("the front door cannot be reached: %w", err)
	}
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer c.Close()
	sending.Go(func() { send(c, raw, pace, v.End && v.Raw != "") })

	br := bufio.NewReader(c)
	var out []answer
	for {
		method := "GET"
		if len(out) < len(v.Requests) {
			method = v.Requests[len(out)].Method
		}
		a, err := readAnswer(br, method)
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			return out, silent, nil
		case errors.Is(err, errGarbled):
			return out, garble, nil
		default:
			return out, hungUp, nil
		}
		out = append(out, a)
		if surplus := len(out) - len(v.Requests); surplus > 1 || surplus == 1 && v.Want == Forwarded {
			return out, inStep, nil // too many already: no need to wait for an end
		}
	}
}

// send writes raw; an error is not told: the answers show what became of it.
func send(c net.Conn, raw string, pace Pace, end bool) {
	const slow = 2 << 10
	for i := 0; i < len(raw); {
		n := len(raw) - i
		if pace == ByteByByte {
			n = 1
			if i >= slow && len(raw) > 4*slow && i < len(raw)-slow {
				n = min(4099, len(raw)-slow-i)
			}
		}
		if _, err := io.WriteString(c, raw[i:i+n]); err != nil {
			return
		}
		i += n
	}
	if h, ok := c.(interface{ CloseWrite() error }); ok && end {
		h.CloseWrite()
	}
}

var errGarbled = errors.New("no answer")

// readAnswer reads the next final answer to a request of that method.
func readAnswer(br *bufio.Reader, method string) (answer, error) {
	for {
		if _, err := br.Peek(1); err != nil {
			return answer{}, err
		}
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return answer{}, garbled(err)
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
			return answer{}, garbled(err)
		}
		if resp.StatusCode < 200 {
			continue
		}
		a := answer{status: resp.StatusCode, recorded: -1}
		if n, err := strconv.Atoi(resp.Header.Get("X-Recorded")); err == nil {
			a.recorded = n
		}
		return a, nil
	}
}

// garbled keeps what ended the connection, and calls everything else garbled.
func garbled(err error) error {
	var n net.Error
	if errors.As(err, &n) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", errGarbled, err)
}

func (a answer) String() string {
	if a.recorded < 0 {
		return strconv.Itoa(a.status)
	}
	return fmt.Sprintf("%d of record %d", a.status, a.recorded)
}

func describe(as []answer) string {
	if len(as) == 0 {
		return "nothing"
	}
	var out []string
	for _, a := range as {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}
