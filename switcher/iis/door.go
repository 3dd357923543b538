package iis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// maxMark is how much of a body is looked at for a mark.
const maxMark = 4096

// door is a binding as a client sees it.
type door struct {
	binding appcmd.Binding
	scheme  string
	address string // where it is dialled
	host    string // what the Host header and the server's name of TLS say
}

// String tells the binding.
func (d door) String() string { return d.binding.String() }

// doorOf tells how a client reaches b. host is what it asks for where the binding takes any.
func doorOf(b appcmd.Binding, host string) (door, error) {
	address, port, name, err := b.Split()
	if err != nil {
		return door{}, err
	}
	switch address {
	case "*", "+", "0.0.0.0":
		address = "127.0.0.1"
	case "::":
		address = "::1"
	}
	if rest, ok := strings.CutPrefix(name, "*"); ok { // *.example.test
		name = "abswap-probe" + rest
	}
	if name == "" {
		name = host
	}
	return door{binding: b, scheme: strings.ToLower(b.Protocol), address: net.JoinHostPort(address, strconv.Itoa(int(port))), host: name}, nil
}

// doorsOf is doorOf for each binding of http and https.
func doorsOf(all []appcmd.Binding, host string) ([]door, error) {
	var doors []door
	var errs []error
	for _, b := range all {
		if !b.HTTP() {
			continue
		}
		d, err := doorOf(b, host)
		errs = append(errs, err)
		doors = append(doors, d)
	}
	return doors, multi.Join(errs...)
}

// ask sends one request through d on a connection of its own, follows no redirect, reads the body, and returns the head and the first bytes
// of the body.
func (a *App) ask(ctx context.Context, d door, path string) (*http.Response, string, error) {
	ctx, cancel := context.WithTimeout(ctx, a.probe())
	defer cancel()
	_, port, _ := net.SplitHostPort(d.address)
	host := d.host
	if port != map[string]string{"http": "80", "https": "443"}[d.scheme] {
		host = net.JoinHostPort(d.host, port)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.scheme+"://"+host+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("User-Agent", "abswap-probe")
	srv := a.server()
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if srv.TLS != nil {
		conf = srv.TLS.Clone()
	}
	conf.ServerName = d.host
	dial := srv.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, d.address) }}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, "", fmt.Errorf("GET %s at %s: %w", path, d, err)
	}
	defer resp.Body.Close()
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxMark))
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	}
	if err != nil {
		return nil, "", fmt.Errorf("GET %s at %s: body: %w", path, d, err)
	}
	return resp, string(head), nil
}

// mark asks through d who answers.
func (a *App) mark(ctx context.Context, d door) (string, error) {
	path := a.Mark.Path
	if path == "" {
		path = "/"
	}
	resp, body, err := a.ask(ctx, d, path)
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= http.StatusInternalServerError || a.Mark.Header == "" && resp.StatusCode != http.StatusOK {
		return "", &refusedError{fmt.Sprintf("GET %s at %s answered %s", path, d, resp.Status), resp.StatusCode}
	}
	mark := strings.TrimSpace(body)
	if a.Mark.Header != "" {
		mark = resp.Header.Get(a.Mark.Header)
	}
	if mark == "" {
		return "", fmt.Errorf("GET %s at %s answered %s without a mark", path, d, resp.Status)
	}
	return mark, nil
}

// refusedError is an answer that nobody wants.
type refusedError struct {
	text   string
	status int
}

func (e *refusedError) Error() string { return e.text }

// prove returns nil when all doors, one after the other, gave the mark that is wanted often enough in a row. It asks until then, or until
// a.Patience or ctx ends; the error is then the last thing that was not right. After each answer that was not right it calls tend, which may
// help, and whose error ends it.
func (a *App) prove(ctx context.Context, doors []door, want string, tend func(context.Context, error) error) error {
	if len(doors) == 0 {
		return errors.New("there is no binding of http or https to probe")
	}
	limit, cancel := context.WithTimeoutCause(ctx, a.patience(), fmt.Errorf("not in force after %s", a.patience()))
	defer cancel()
	var wrong error // the last answer's, as opposed to that of an attempt which the limit has cut off
	return retry.Do(limit, retry.Policy{First: 20 * time.Millisecond, Max: 250 * time.Millisecond}, func(ctx context.Context) error {
		err := a.allAnswer(ctx, doors, want)
		switch {
		case err != nil && ctx.Err() != nil && wrong != nil:
			return fmt.Errorf("%w; before: %w", err, wrong)
		case err != nil && ctx.Err() == nil:
			wrong = err
		}
		if err != nil && tend != nil && ctx.Err() == nil {
			if terr := tend(ctx, err); terr != nil {
				return retry.Stop(fmt.Errorf("%w; %w", terr, err))
			}
		}
		return err
	})
}

// allAnswer asks each door as often as a proof wants it.
func (a *App) allAnswer(ctx context.Context, doors []door, want string) error {
	for range a.probes() {
		for _, d := range doors {
			got, err := a.mark(ctx, d)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s is answered by %.80q, not by %q", d, got, want)
			}
		}
	}
	return nil
}

// watch asks through d again and again, until the function that it returns is called, which tells what was seen.
func (a *App) watch(ctx context.Context, d door) func() Switched {
	ctx, cancel := context.WithCancel(ctx)
	var seen Switched
	var wg sync.WaitGroup
	wg.Go(func() {
		lastGood := time.Now()
		failing := false
		for ctx.Err() == nil {
			began := time.Now()
			_, err := a.mark(ctx, d)
			took := time.Since(began)
			switch {
			case err != nil && ctx.Err() != nil:
				return
			case err != nil:
				failing = true
				seen.Failed++
			default:
				if failing {
					seen.Gap = max(seen.Gap, time.Since(lastGood))
				}
				failing, lastGood = false, time.Now()
				seen.Longest = max(seen.Longest, took)
			}
			seen.Probes++
			if retry.Sleep(ctx, 5*time.Millisecond) != nil {
				return
			}
		}
	})
	return func() Switched {
		cancel()
		wg.Wait()
		return seen
	}
}

// unsure says that an effect may or may not have happened.
func unsure(err error) error {
	if err == nil || errors.Is(err, abswap.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
}
