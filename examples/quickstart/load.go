package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load is everything that the clients do. The short requests come at a constant rate, whether or not the earlier ones have been
// answered, and their latency counts from the moment at which the plan wanted them sent: a stall is seen by all requests that it
// delays, not only by the one that it caught.
type load struct {
	addr    string    // of the front door
	epoch   time.Time // all times are since then
	rate    int       // short requests a second
	pace    float64   // by which all lengths of long work are multiplied
	seed    uint64
	client  *http.Client
	orders  []order
	records records

	hard    context.Context // its end breaks off what is under way, which is then nobody's fault
	longs   sync.WaitGroup  // transfers
	nextID  atomic.Int64
	started time.Duration
	stopped time.Duration
	planned int // short requests that the plan asked for
}

// patience is how long a client waits for a short request, or for the next sign of life of a long one, before it counts as lost.
const patience = 15 * time.Second

// order is a body to be posted, and what the application will say to it.
type order struct {
	body []byte
	sum  []byte
}

func newLoad(addr string, epoch time.Time, o options) *load {
	l := &load{addr: addr, epoch: epoch, rate: o.rate, pace: o.pace(), seed: o.seed}
	random := rand.New(rand.NewPCG(o.seed, 1))
	for range 64 {
		body := make([]byte, random.IntN(16<<10))
		io.ReadFull(content(random.Uint64()), body)
		sum := sha256.Sum256(body)
		l.orders = append(l.orders, order{body, sum[:]})
	}
	l.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &stampedConn{Conn: c, epoch: epoch}, nil
			},
			DisableCompression:    true,
			MaxIdleConnsPerHost:   512,
			ExpectContinueTimeout: patience,
		},
	}
	return l
}

// now is the time since the epoch.
func (l *load) now() time.Duration { return time.Since(l.epoch) }

// lasted is for how long there has been load.
func (l *load) lasted() time.Duration { return l.now() - l.started }

// begin begins the load; the returned function ends it and waits until all that had begun has ended. If ctx ends, the load ends too, and
// what is under way is broken off. begin, transfer and the returned function are called on one goroutine.
func (l *load) begin(ctx context.Context) (stop func()) {
	soft, end := context.WithCancel(context.WithoutCancel(ctx))
	hard, quit := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { quit(errQuit); end() })
	l.hard, l.started = hard, l.now()
	done := make(chan struct{})
	go func() { defer close(done); l.run(soft) }()
	return func() {
		end()
		<-done
		l.longs.Wait()
		unhook()
		quit(nil)
		l.client.CloseIdleConnections()
	}
}

// run makes the load, but for the transfers, until ctx ends, and waits for what has begun.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for i := range websockets {
		all.Go(func() { l.again(ctx, i, l.websocket) })
	}
	for i := range eventStreams {
		all.Go(func() { l.again(ctx, websockets+i, l.eventStream) })
	}
	l.shorts(ctx, &all)
	l.stopped = l.now()
	all.Wait()
}

// achieved is how many short requests a second were answered while the load lasted. It is below the rate where the machine is too slow.
func (l *load) achieved() float64 {
	answered := 0
	for _, r := range l.records.list() {
		if !r.kind.long() && r.slot != "" && r.ended <= l.stopped {
			answered++
		}
	}
	return float64(answered) / (l.stopped - l.started).Seconds()
}

// again does a piece of work over and over until ctx ends, with randomness of its own so that the seed decides what it does.
func (l *load) again(ctx context.Context, worker int, work func(*rand.Rand)) {
	random := rand.New(rand.NewPCG(l.seed, 1000+uint64(worker)))
	pause(ctx, time.Duration(random.Float64()*l.pace*float64(time.Second))) // not all at the same moment
	for ctx.Err() == nil {
		work(random)
	}
}

// shorts sends the short requests at their times until ctx ends.
func (l *load) shorts(ctx context.Context, all *sync.WaitGroup) {
	random := rand.New(rand.NewPCG(l.seed, 2))
	start := l.now()
	every := float64(time.Second) / float64(l.rate)
	for n := 0; ; n++ {
		due := start + time.Duration(float64(n)*every)
		if wait := due - l.now(); wait > 0 {
			if pause(ctx, wait) != nil {
				l.planned = n
				return
			}
		} else if ctx.Err() != nil {
			l.planned = n
			return
		}
		dice, number, fresh := random.IntN(100), random.IntN(1000), random.IntN(25) == 0
		all.Go(func() { l.short(due, dice, number, fresh) })
	}
}

// short does one short request: 77 of 100 are GETs, 20 are POSTs, 3 are GETs that take some milliseconds. fresh asks for a connection
// of its own.
func (l *load) short(due time.Duration, dice, number int, fresh bool) {
	ctx, cancel := context.WithTimeoutCause(l.hard, patience, errPatience)
	defer cancel()
	rec := record{kind: kindGet, due: due}
	var body io.Reader
	method, path, want := http.MethodGet, "/items/"+strconv.Itoa(number), ""
	switch {
	case dice < 77:
		want = itemText(number)
	case dice < 97:
		o := l.orders[number%len(l.orders)]
		rec.kind, rec.id = kindPost, "order-"+strconv.FormatInt(l.nextID.Add(1), 10)
		method, path, body = http.MethodPost, "/orders/"+rec.id, bytes.NewReader(o.body)
		want = receipt(rec.id, int64(len(o.body)), o.sum)
	default:
		rec.kind, path, want = kindThink, "/think?ms="+strconv.Itoa(5+number%45), "thought\n"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.addr+path, body)
	if err != nil {
		panic(err) // the request is made of constants
	}
	req.GetBody = nil // no second delivery behind our back
	req.Close = fresh
	if number%3 == 0 && body != nil {
		req.ContentLength = -1 // chunked
	}
	l.do(req, &rec, func(resp *http.Response) error {
		var got bytes.Buffer
		if _, err := io.Copy(&got, resp.Body); err != nil {
			return err
		}
		if got.String() != want {
			return fmt.Errorf("answer of %d bytes is not the one expected, of %d", got.Len(), len(want))
		}
		return nil
	})
}

// errPatience is why a client gave up.
var errPatience = fmt.Errorf("no answer for %s", patience)

// errQuit is why work is broken off without being recorded: the user ended the run.
var errQuit = errors.New("interrupted")

// do sends req, has check read the answer, and records how it went.
func (l *load) do(req *http.Request, rec *record, check func(*http.Response) error) {
	l.records.begin(rec.kind)
	var mu sync.Mutex // the hooks run on the transport's goroutines
	var conn *stampedConn
	var conns int
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			mu.Lock()
			defer mu.Unlock()
			conns++
			if c, ok := i.Conn.(*stampedConn); ok {
				conn = c
				conn.first.Store(0)
			}
		},
		Got100Continue: func() {
			mu.Lock()
			defer mu.Unlock()
			rec.told, rec.began = l.now(), true
		},
	}
	answer := func(resp *http.Response) {
		mu.Lock()
		defer mu.Unlock()
		if conn != nil { // now, as soon the connection may carry the next request
			rec.sent = time.Duration(conn.first.Load())
		}
		if resp == nil {
			return
		}
		rec.began, rec.slot, rec.release = true, resp.Header.Get(slotHeader), resp.Header.Get(releaseHeader)
		if rec.told == 0 {
			rec.told = l.now()
		}
	}
	err := l.exchange(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)), answer, check)
	mu.Lock()
	defer mu.Unlock()
	rec.ended = l.now()
	if err == nil && conns > 1 {
		err = fmt.Errorf("the client's transport had to send it %d times", conns)
	}
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			err = cause
		}
		rec.err = err.Error()
	}
	if errors.Is(err, errQuit) {
		rec.err = ""
	}
	l.records.end(*rec)
}

// exchange sends req, tells answer of the answer's head, nil if there is none, and has check read the body of a right one.
func (l *load) exchange(req *http.Request, answer func(*http.Response), check func(*http.Response) error) error {
	resp, err := l.client.Do(req)
	answer(resp)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	if resp.Header.Get(slotHeader) == "" || resp.Header.Get(releaseHeader) == "" {
		return errors.New("the answer does not say which slot and release gave it")
	}
	return check(resp)
}

// stampedConn knows when the first byte of a request went out.
type stampedConn struct {
	net.Conn
	epoch time.Time
	first atomic.Int64 // nanoseconds since epoch; 0: nothing yet
}

func (c *stampedConn) Write(p []byte) (int, error) {
	if c.first.Load() == 0 {
		c.first.CompareAndSwap(0, int64(time.Since(c.epoch)))
	}
	return c.Conn.Write(p)
}
