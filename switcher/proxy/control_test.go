package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// plane is a control plane on loopback.
type plane struct {
	p       *proxy.Switcher
	address string
	token   string
}

func controlled(t testing.TB, p *proxy.Switcher, o proxy.ControlOptions) plane {
	if o.Token == "" {
		o.Token = rand.Text()
	}
	h, err := proxy.ControlHandler(p, o)
	require.NoError(t, err)
	l, err := proxy.ListenControl("127.0.0.1:0")
	require.NoError(t, err)
	server := proxy.ControlServer(h)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return plane{p, l.Addr().String(), o.Token}
}

func (c plane) client(t testing.TB) *proxy.Client {
	client, err := proxy.NewClient(proxy.ClientConfig{Address: c.address, Token: c.token})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// ask makes one call by hand.
func (c plane) ask(t testing.TB, method, path string, body io.Reader, change func(*http.Request)) (status int, answer map[string]any) {
	r, err := http.NewRequest(method, "http://"+c.address+path, body)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+c.token)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", rand.Text())
	}
	if change != nil {
		change(r)
	}
	resp, err := newClient(t).Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	return resp.StatusCode, answer
}

func (c plane) revision(t testing.TB) uint64 {
	status, a := c.ask(t, http.MethodGet, "/v1/status", nil, nil)
	require.Equal(t, 200, status)
	return uint64(a["revision"].(float64))
}

func (c plane) activate(revision uint64, slot string) io.Reader {
	return strings.NewReader(fmt.Sprintf(`{"revision":%d,"slot":{"name":%q}}`, revision, slot))
}

// idlePair is a proxy to which nobody comes.
func idlePair(t testing.TB) *proxy.Switcher {
	p, err := proxy.New(proxy.Config{Slots: twoSlots, Active: "blue"})
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// TestControlRefuses makes calls that are not wholly right. None changes anything.
func TestControlRefuses(t *testing.T) {
	c := controlled(t, idlePair(t), proxy.ControlOptions{BodyTimeout: 300 * time.Millisecond, Hosts: []string{"build-7"}})
	at := c.revision(t)
	good := fmt.Sprintf(`{"revision":%d,"slot":{"name":"green"}}`, at)
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	del := func(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }
	for name, tc := range map[string]struct {
		status int
		path   string
		body   io.Reader
		change func(*http.Request)
	}{
		"no token":          {401, "", nil, del("Authorization")},
		"wrong token":       {401, "", nil, set("Authorization", "Bearer "+rand.Text())},
		"token's beginning": {401, "", nil, set("Authorization", "Bearer "+c.token[:len(c.token)-1])},
		"token by Basic":    {401, "", nil, set("Authorization", "Basic "+c.token)},
		"two tokens": {401, "", nil, func(r *http.Request) {
			r.Header.Add("Authorization", "Bearer x")
		}},
		"another host":            {421, "", nil, func(r *http.Request) { r.Host = "evil.example" }},
		"another host, this port": {421, "", nil, func(r *http.Request) { r.Host = "evil.example:" + c.address[strings.LastIndex(c.address, ":")+1:] }},
		"another address":         {421, "", nil, func(r *http.Request) { r.Host = "10.0.0.1" }},
		"socket's host over TCP":  {421, "", nil, func(r *http.Request) { r.Host = "abswap" }},
		"localhost's subdomain":   {421, "", nil, func(r *http.Request) { r.Host = "localhost.evil.example" }},
		"origin":                  {403, "", nil, set("Origin", "http://evil.example")},
		"origin of this host":     {403, "", nil, set("Origin", "http://"+c.address)},
		"origin null":             {403, "", nil, set("Origin", "null")},
		"cross-site":              {403, "", nil, set("Sec-Fetch-Site", "cross-site")},
		"same-site":               {403, "", nil, set("Sec-Fetch-Site", "same-origin")},
		"form":                    {415, "", nil, set("Content-Type", "application/x-www-form-urlencoded")},
		"plain text":              {415, "", nil, set("Content-Type", "text/plain")},
		"no type":                 {415, "", nil, del("Content-Type")},
		"other charset":           {415, "", nil, set("Content-Type", "application/json; charset=utf-16")},
		"encoded":                 {415, "", nil, set("Content-Encoding", "gzip")},
		"no key":                  {400, "", nil, del("Idempotency-Key")},
		"short key":               {400, "", nil, set("Idempotency-Key", "1")},
		"no such path":            {404, "/v1/deactivate", nil, nil},
		"no such version":         {404, "/v2/activate", nil, nil},
		"read by POST":            {405, "/v1/status", nil, nil},
		"query":                   {400, "/v1/activate?slot=green", nil, nil},
		"too large":               {413, "", strings.NewReader(good + strings.Repeat(" ", 64<<10)), nil},
		"too large, chunked":      {413, "", io.MultiReader(strings.NewReader(good + strings.Repeat(" ", 64<<10))), nil},
		"slow":                    {408, "", io.MultiReader(strings.NewReader(good[:20]), stuck{t.Context()}), nil},
		"empty":                   {400, "", strings.NewReader(""), nil},
		"torn":                    {400, "", strings.NewReader(good[:len(good)-1]), nil},
		"two orders":              {400, "", strings.NewReader(good + good), nil},
		"array":                   {400, "", strings.NewReader("[" + good + "]"), nil},
		"null":                    {400, "", strings.NewReader("null"), nil},
		"unknown field":           {400, "", strings.NewReader(`{"force":true,` + good[1:]), nil},
		"unknown field inside":    {400, "", strings.NewReader(strings.Replace(good, `"name"`, `"weight":1,"name"`, 1)), nil},
		"the same field twice":    {400, "", strings.NewReader(`{"slot":{"name":"blue"},` + good[1:]), nil},
		"twice, in other case":    {400, "", strings.NewReader(`{"SLOT":{"name":"blue"},` + good[1:]), nil},
		"wrong type":              {400, "", strings.NewReader(strings.Replace(good, `"green"`, `7`, 1)), nil},
		"not UTF-8":               {400, "", strings.NewReader(strings.Replace(good, `green`, "gr\xffeen", 1)), nil},
		"no revision":             {400, "", strings.NewReader(`{"slot":{"name":"green"}}`), nil},
		"negative revision":       {400, "", strings.NewReader(`{"revision":-1,"slot":{"name":"green"}}`), nil},
		"an older revision":       {412, "", c.activate(at-1, "green"), nil},
		"a younger revision":      {412, "", c.activate(at+1, "green"), nil},
		"unknown slot":            {404, "", c.activate(at, "red"), nil},
		"no slot":                 {404, "", c.activate(at, ""), nil},
		"sum of weights":          {422, "/v1/weights", strings.NewReader(fmt.Sprintf(`{"revision":%d,"weights":[{"slot":{"name":"green"},"part":99}]}`, at)), nil},
		"no weights":              {422, "/v1/weights", strings.NewReader(fmt.Sprintf(`{"revision":%d,"weights":[]}`, at)), nil},
		"impossible address":      {422, "", strings.NewReader(fmt.Sprintf(`{"revision":%d,"slot":{"name":"green","told":true,"address":"x"}}`, at)), nil},
		"unknown way to force":    {400, "/v1/force", strings.NewReader(fmt.Sprintf(`{"revision":%d,"slot":"blue","how":"hard"}`, at)), nil},
		"unknown way beyond":      {400, "/v1/hold", strings.NewReader(fmt.Sprintf(`{"revision":%d,"beyond":"wait"}`, at)), nil},
		"negative hold":           {422, "/v1/hold", strings.NewReader(fmt.Sprintf(`{"revision":%d,"total":-1}`, at)), nil},
		"unknown hold":            {404, "/v1/hold/renew", strings.NewReader(`{"id":"x"}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			path, body := tc.path, tc.body
			if path == "" {
				path = "/v1/activate"
			}
			if body == nil {
				body = strings.NewReader(good)
			}
			status, a := c.ask(t, http.MethodPost, path, body, tc.change)
			assert.Equal(t, tc.status, status, "%v", a)
			e, _ := a["error"].(map[string]any)
			assert.NotEmpty(t, e["text"])
			assert.NotContains(t, fmt.Sprint(a), c.token)
			assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, c.p))
			assert.Equal(t, at, c.revision(t))
			assert.Zero(t, c.p.Held())
		})
	}
	for name, path := range map[string]string{
		"unknown query": "/v1/inflight?slot=blue&x=1", "slot twice": "/v1/inflight?slot=blue&slot=green", "no slot": "/v1/list", "limit": "/v1/list?slot=blue&limit=-1",
		"wait": "/v1/idle?slot=blue&wait=2h", "status with query": "/v1/status?slot=blue", "bad query": "/v1/list?slot=%zz",
	} {
		status, a := c.ask(t, http.MethodGet, path, nil, nil)
		assert.Equal(t, 400, status, "%s: %v", name, a)
	}
	status, _ := c.ask(t, http.MethodGet, "/v1/activate", nil, nil)
	assert.Equal(t, 405, status)
	status, _ = c.ask(t, http.MethodPost, "/v1/activate", strings.NewReader(good), func(r *http.Request) { r.Host = "Build-7:80" })
	assert.Equal(t, 200, status, "and it would have been right")
	assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, c.p))
}

// stuck is a body that stands still.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// TestControlLetsOnlyThisMachineIn gives the handler requests of others.
func TestControlLetsOnlyThisMachineIn(t *testing.T) {
	h, err := proxy.ControlHandler(idlePair(t), proxy.ControlOptions{Token: rand.Text()})
	require.NoError(t, err)
	open, err := proxy.ControlHandler(idlePair(t), proxy.ControlOptions{})
	require.NoError(t, err)
	for _, tc := range []struct {
		h    http.Handler
		peer string
		want int
	}{{h, "192.0.2.7:1234", 403}, {h, "", 403}, {h, "127.0.0.1:1234", 401}, {h, "[::1]:1234", 401}, {open, "127.0.0.1:1234", 403}} {
		w := &recorder{header: http.Header{}}
		r, err := http.NewRequest(http.MethodGet, "http://localhost/v1/status", nil)
		require.NoError(t, err)
		r.RemoteAddr = tc.peer
		tc.h.ServeHTTP(w, r)
		assert.Equal(t, tc.want, w.status, tc.peer)
	}
}

type recorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

func TestControlHandlerTellsAllMistakes(t *testing.T) {
	_, err := proxy.ControlHandler(nil, proxy.ControlOptions{Token: "short", Hosts: []string{"a:1"}, Lease: -1})
	for _, says := range []string{"Switcher is nil", "Token", "22", `"a:1"`, "below 0"} {
		assert.ErrorContains(t, err, says)
	}
	for _, address := range []string{"", "unix:", "localhost", "0.0.0.0:1", "192.0.2.1:80", "example.com:80", ":80"} {
		_, err := proxy.NewClient(proxy.ClientConfig{Address: address, Token: rand.Text()})
		assert.Error(t, err, address)
		_, err = proxy.ListenControl(address)
		assert.Error(t, err, address)
	}
	_, err = proxy.NewClient(proxy.ClientConfig{Address: "127.0.0.1:1"})
	assert.ErrorContains(t, err, "token")
}

// TestLateAndRepeatedOrders: an order that comes again does nothing again, one that comes late nothing at all.
func TestLateAndRepeatedOrders(t *testing.T) {
	c := controlled(t, idlePair(t), proxy.ControlOptions{})
	at := c.revision(t)
	key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "0123456789abcdef") }
	status, first := c.ask(t, http.MethodPost, "/v1/activate", c.activate(at, "green"), key)
	require.Equal(t, 200, status)
	client := c.client(t)
	require.NoError(t, client.Activate(t.Context(), plain("blue")))

	status, again := c.ask(t, http.MethodPost, "/v1/activate", c.activate(at, "green"), key)
	assert.Equal(t, 200, status, "it was carried out, once")
	assert.Equal(t, first, again)
	assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, c.p))

	status, _ = c.ask(t, http.MethodPost, "/v1/activate", c.activate(at, "green"), nil)
	assert.Equal(t, 412, status, "late")
	status, _ = c.ask(t, http.MethodPost, "/v1/force", strings.NewReader(fmt.Sprintf(`{"revision":%d,"slot":"blue","how":"cut"}`, at)), nil)
	assert.Equal(t, 412, status, "late")
	status, _ = c.ask(t, http.MethodPost, "/v1/activate", c.activate(at+2, "green"), key)
	assert.Equal(t, 422, status, "the key of another order")
	assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, c.p))

	require.NoError(t, c.p.Activate(t.Context(), plain("green")), "another hand")
	require.NoError(t, client.Activate(t.Context(), plain("blue")), "the Client looks again")
	assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, c.p))
}

// TestManyOfOneKey sends one order many times at once: it takes effect once.
func TestManyOfOneKey(t *testing.T) {
	c := controlled(t, idlePair(t), proxy.ControlOptions{})
	at := c.revision(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			status, a := c.ask(t, http.MethodPost, "/v1/activate", c.activate(at, "green"), func(r *http.Request) {
				r.Header.Set("Idempotency-Key", "0123456789abcdef")
			})
			assert.Equal(t, 200, status)
			assert.EqualValues(t, at+1, a["revision"])
		})
	}
	all.Wait()
	assert.Equal(t, at+1, c.revision(t))
}

func TestClientsErrorsAreTyped(t *testing.T) {
	p := idlePair(t)
	c := controlled(t, p, proxy.ControlOptions{})
	client := c.client(t)
	ctx := t.Context()
	refused := func(err error) *proxy.ControlError {
		e, ok := errors.AsType[*proxy.ControlError](err)
		require.True(t, ok, "%v", err)
		assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
		return e
	}
	err := client.Activate(ctx, plain("red"))
	require.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.Equal(t, 404, refused(err).Status)
	assert.ErrorContains(t, err, `"red"`)
	release, err := client.Hold(ctx, abswap.HoldOptions{})
	require.NoError(t, err)
	_, err = client.Hold(ctx, abswap.HoldOptions{})
	require.ErrorIs(t, err, abswap.ErrBusy)
	refused(err)
	release()

	require.NoError(t, client.SetWeights(ctx, abswap.Weight{Slot: plain("blue"), Part: 40}, abswap.Weight{Slot: plain("green"), Part: 60}))
	name, err := client.Active(ctx)
	assert.Equal(t, "green", name)
	assert.ErrorIs(t, err, abswap.ErrMixed)
	require.NoError(t, client.Seal(ctx, plain("green")))
	require.NoError(t, client.Seal(ctx, plain("blue")))
	_, err = client.Active(ctx)
	assert.ErrorIs(t, err, abswap.ErrNoActive)

	err = client.Check(ctx, abswap.CheckRequest{Slots: []abswap.Slot{plain("red"), nil}, Drain: abswap.DrainOptions{Sessions: true, AtDeadline: abswap.CutOff}})
	direct := p.Check(ctx, abswap.CheckRequest{Slots: []abswap.Slot{plain("red")}, Drain: abswap.DrainOptions{Sessions: true, AtDeadline: abswap.CutOff}})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, direct.Error())
	err = client.Check(ctx, abswap.CheckRequest{Drain: abswap.DrainOptions{AtDeadline: abswap.CutOff}})
	_, warning := errors.AsType[*abswap.Warning](err)
	assert.True(t, warning)
	byClass := abswap.CheckRequest{Drain: abswap.DrainOptions{AtDeadline: abswap.CutOff,
		Classes: map[abswap.Class]abswap.ClassRule{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Cap: time.Hour}}}}
	require.NoError(t, p.Check(ctx, byClass))
	assert.NoError(t, client.Check(ctx, byClass), "the rules go with it")

	require.NoError(t, p.Close())
	err = client.Activate(ctx, plain("blue"))
	assert.ErrorIs(t, err, http.ErrServerClosed)
	refused(err)
	assert.Equal(t, p.Traits(), client.Traits())
}

// TestOrderToNobodyEndsWithItsContext: while an order waits for a proxy that nobody listens for its context ends, and the error says so.
func TestOrderToNobodyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := proxy.NewClient(proxy.ClientConfig{Address: "unix:" + filepath.Join(t.TempDir(), "absent")})
		require.NoError(t, err)
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond) // it is between two tries then
		defer cancel()
		err = client.Activate(ctx, plain("blue"))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome, "nothing was sent")
		assert.ErrorContains(t, err, "nothing was sent")
	})
}

// TestUnknownOutcome breaks the connection under an order: before it was sent, and after.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	client, err := proxy.NewClient(proxy.ClientConfig{Address: l.Addr().String(), Token: rand.Text()})
	require.NoError(t, err)
	defer client.Close()
	orders := make(chan net.Conn, 10)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				for br := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(br)
					if err != nil {
						c.Close()
						return
					}
					io.Copy(io.Discard, r.Body)
					if r.Method == http.MethodPost {
						orders <- c // which gets no answer
						continue
					}
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"revision\":7}")
				}
			})
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		<-orders
	}()
	err = client.Activate(ctx, plain("green"))
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorIs(t, err, context.Canceled)

	go func() {
		for range 10 { // the transport may try again
			c := <-orders
			c.Close()
			if l.Close() != nil {
				return
			}
		}
	}()
	err = client.Activate(t.Context(), plain("green"))
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
	l.Close()
	serving.Wait()

	err = client.Activate(t.Context(), plain("green"))
	require.Error(t, err)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome, "nobody heard it")
	_, err = client.Active(t.Context())
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome, "a question changes nothing")
}

func TestControlSocket(t *testing.T) {
	dir := socketDir(t, "unix")
	path := filepath.Join(dir, "control")
	l, err := proxy.ListenControl("unix:" + path)
	require.NoError(t, err)
	assert.Equal(t, path, l.Addr().String())
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, info.Mode().Perm())
	}
	_, err = proxy.ListenControl("unix:" + path)
	require.ErrorContains(t, err, "another proxy listens")
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	assert.NoFileExists(t, path)

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // as a process leaves it that was killed
	require.NoError(t, err)
	_, err = proxy.ListenControl("unix:" + path)
	require.ErrorContains(t, err, "another program listens")
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	l, err = proxy.ListenControl("unix:" + path)
	require.NoError(t, err)
	require.NoError(t, l.Close())

	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err = proxy.ListenControl("unix:" + path)
	require.ErrorContains(t, err, "not a socket")
	assert.FileExists(t, path)
	_, err = proxy.ListenControl("unix:" + filepath.Join(dir, "absent", "control"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	_, err := proxy.ReadToken(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	token, err := proxy.CreateToken(path)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(token), 43, "256 bits")
	again, err := proxy.CreateToken(path)
	require.NoError(t, err)
	assert.Equal(t, token, again)
	again, err = proxy.ReadToken(path)
	require.NoError(t, err)
	assert.Equal(t, token, again)
	other, err := proxy.CreateToken(path + "2")
	require.NoError(t, err)
	assert.NotEqual(t, token, other)
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Chmod(path, 0o640))
		_, err = proxy.ReadToken(path)
		assert.ErrorContains(t, err, "other users may read")
		_, err = proxy.CreateToken(path)
		assert.ErrorContains(t, err, "other users may read")
	}
	for _, text := range []string{"", "short", strings.Repeat("x", 2000), "with a space in the middle of it"} {
		require.NoError(t, os.WriteFile(path+"3", []byte(text), 0o600))
		_, err = proxy.ReadToken(path + "3")
		assert.Error(t, err, text)
	}
}

// TestControlLists what is in flight, as the Switcher does.
func TestControlLists(t *testing.T) {
	goOn := make(chan struct{})
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) { <-goOn }, hello)
	c := controlled(t, f.Switcher, proxy.ControlOptions{})
	client := c.client(t)
	answered := make(chan error, 1)
	go func() {
		resp, err := newClient(t).Get(f.url + "/orders/4711/items?secret=1")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	soon(t, "the request counts", func() bool {
		load, err := client.InFlight(t.Context(), plain("blue"))
		return err == nil && load.Requests == 1 && load.Evidence == abswap.EvidenceExact
	})
	work, err := client.List(t.Context(), plain("blue"), 10)
	require.NoError(t, err)
	require.Len(t, work, 1)
	assert.Equal(t, "/orders/4711/items", work[0].Path)
	assert.Equal(t, "GET", work[0].Method)
	assert.Positive(t, work[0].Age)
	assert.Contains(t, work[0].Peer, "127.0.0.1:")
	status, a := c.ask(t, http.MethodGet, "/v1/list?slot=blue", nil, nil)
	assert.Equal(t, 200, status)
	assert.Equal(t, "/orders/*/items", a["work"].([]any)[0].(map[string]any)["class"])
	status, a = c.ask(t, http.MethodGet, "/v1/idle?slot=blue&wait=10ms", nil, nil)
	assert.Equal(t, 200, status)
	assert.Equal(t, false, a["idle"])
	idle := make(chan error, 1)
	go func() { idle <- client.WaitIdle(t.Context(), plain("blue")) }()
	close(goOn)
	assert.NoError(t, within(t, idle, "the slot is idle"))
	assert.NoError(t, within(t, answered, "the answer"))
}

func FuzzControlOrder(f *testing.F) {
	f.Add([]byte(`{"revision":7,"slot":{"name":"green","told":true,"address":"127.0.0.1:1","started":"2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"revision":7,"weights":[{"slot":{"name":"green"},"part":40},{"slot":{"name":"blue"},"part":60}]}`))
	f.Add([]byte(`{"a":{"b":[1,{"c":null}]},"A":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, again := range proxy.DecodeOrders(text) {
			assert.True(t, json.Valid(text))
			var read map[string]any
			require.NoError(t, json.Unmarshal(text, &read))
			for _, second := range proxy.DecodeOrders(again) {
				if bytes.Equal(again, second) {
					return
				}
			}
			t.Errorf("%q was read as %q, which is not read as itself", text, again)
		}
	})
}
