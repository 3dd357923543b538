package evidence

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// HTTPDrainer asks the applications themselves what they are working on. The endpoint answers GET with status 200 and either a number,
//
//	Content-Type: text/plain
//
//	3
//
// or an object, whose fields are whole numbers that are not negative; requests is required, and no field but these three is allowed:
//
//	Content-Type: application/json
//
//	{"requests": 3, "upgraded": 1, "sessions": 40}
//
// Anything else, a redirect too, is an error, and no evidence. What is right is approximate evidence: a request may be on its way. Each reading
// uses a connection of its own and no proxy of the environment. The endpoint should be reachable from this machine only.
type HTTPDrainer struct {
	URLs map[string]string // the slots' endpoints, past any Switcher, by the slot's name: "http://127.0.0.1:5001/in-flight"; required

	// Own is how many requests of the count are the asking itself: 1 if the application counts requests to the endpoint too.
	Own int

	Host    string        // Host header, and the server name of https; "": the URL's
	Header  http.Header   // further request fields, such as Authorization
	Timeout time.Duration // of one reading; 0: 5s
	TLS     *tls.Config   // of https; nil: the system's roots
}

var (
	_ abswap.SessionDrainer = (*HTTPDrainer)(nil)
	_ abswap.Checker        = (*HTTPDrainer)(nil)
)

// ErrNoEvidence is an answer of an in-flight endpoint that is not exactly what HTTPDrainer documents.
var ErrNoEvidence = errors.New("the answer is no evidence")

const answerLimit = 4 << 10 // bytes of an answer

// answer is what an endpoint tells.
type answer struct {
	requests, upgraded int
	sessions           int
	hasSessions        bool
}

// InFlight asks the application of s. With an error the Load is one of unknown evidence.
func (d *HTTPDrainer) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	a, err := d.ask(ctx, s)
	if err != nil {
		return abswap.Load{Source: "in-flight endpoint"}, err
	}
	return abswap.Load{Requests: a.requests, Upgraded: a.upgraded, Evidence: abswap.EvidenceApproximate, Source: "in-flight endpoint"}, nil
}

// Sessions asks the application of s. An endpoint that tells no sessions is errors.ErrUnsupported.
func (d *HTTPDrainer) Sessions(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	a, err := d.ask(ctx, s)
	if err == nil && !a.hasSessions {
		err = fmt.Errorf("slot %q: its in-flight endpoint tells no sessions: %w", s.Name(), errors.ErrUnsupported)
	}
	if err != nil {
		return abswap.Load{Source: "in-flight endpoint"}, err
	}
	return abswap.Load{Sessions: a.sessions, Evidence: abswap.EvidenceApproximate, Source: "in-flight endpoint"}, nil
}

// Check refuses URLs that are missing or cannot be asked, and an endpoint that answers what it should not. One that does not answer is a
// warning: its slot may be idle now.
func (d *HTTPDrainer) Check(ctx context.Context, r abswap.CheckRequest) error {
	var errs []error
	if d.Own < 0 || d.Timeout < 0 {
		errs = append(errs, fmt.Errorf("HTTPDrainer has a negative setting: Own %d, Timeout %s", d.Own, d.Timeout))
	}
	for _, s := range r.Slots {
		if err := d.mistake(s); err != nil {
			errs = append(errs, err)
			continue
		}
		a, err := d.ask(ctx, s)
		switch {
		case errors.Is(err, ErrNoEvidence):
			errs = append(errs, err)
		case err != nil:
			errs = append(errs, abswap.Warnf("%w", err))
		case r.Drain.Sessions && !a.hasSessions:
			errs = append(errs, fmt.Errorf("slot %q: its in-flight endpoint tells no sessions: %w", s.Name(), errors.ErrUnsupported))
		}
	}
	return multi.Join(errs...)
}

// mistake finds what is wrong with a slot's URL.
func (d *HTTPDrainer) mistake(s abswap.Slot) error {
	if s == nil {
		return fmt.Errorf("http drainer: the slot is nil: %w", abswap.ErrUnknownSlot)
	}
	text, ok := d.URLs[s.Name()]
	if !ok {
		return fmt.Errorf("http drainer: slot %q has no URL: %w", s.Name(), abswap.ErrUnknownSlot)
	}
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "") {
		err = fmt.Errorf("%q is not of the form http://host:port/path", text)
	}
	if err != nil {
		return fmt.Errorf("http drainer: slot %q: URL: %w: %w", s.Name(), err, abswap.ErrPermanent)
	}
	return nil
}

// ask gets one answer.
func (d *HTTPDrainer) ask(ctx context.Context, s abswap.Slot) (answer, error) {
	if err := d.mistake(s); err != nil {
		return answer{}, err
	}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a, err := d.get(ctx, d.URLs[s.Name()])
	if err != nil {
		return answer{}, fmt.Errorf("slot %q: GET %s: %w", s.Name(), d.URLs[s.Name()], err)
	}
	return a, nil
}

func (d *HTTPDrainer) get(ctx context.Context, at string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return answer{}, err
	}
	if d.Header != nil {
		req.Header = d.Header.Clone()
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.TLS != nil {
		conf = d.TLS.Clone()
	}
	if d.Host != "" {
		req.Host = d.Host
		if conf.ServerName == "" {
			conf.ServerName = (&url.URL{Host: d.Host}).Hostname()
		}
	}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req) // not a Client: that would follow redirects
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("status %s, not 200: %w", resp.Status, ErrNoEvidence)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err != nil {
		return answer{}, fmt.Errorf("body: %w", err)
	}
	a, err := parse(resp.Header.Get("Content-Type"), body)
	if err != nil {
		return answer{}, err
	}
	if a.requests < d.Own {
		return answer{}, fmt.Errorf("%d requests are less than the asking itself, which is %d: %w", a.requests, d.Own, ErrNoEvidence)
	}
	a.requests -= d.Own
	return a, nil
}

// parse reads an answer, strictly.
func parse(contentType string, body []byte) (answer, error) {
	if len(body) > answerLimit {
		return answer{}, fmt.Errorf("the body has more than %d bytes: %w", answerLimit, ErrNoEvidence)
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return answer{}, fmt.Errorf("content type %q: %w", contentType, ErrNoEvidence)
	}
	switch kind {
	case "text/plain":
		n, err := whole(strings.TrimRight(string(body), "\r\n"))
		return answer{requests: n}, err
	case "application/json":
		return parseObject(body)
	}
	return answer{}, fmt.Errorf("content type %q is neither text/plain nor application/json: %w", contentType, ErrNoEvidence)
}

// parseObject reads the object, or a bare number, token by token: encoding/json itself would bear fields twice and in other letters.
func parseObject(body []byte) (a answer, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	next := func() (json.Token, error) {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("body %.80q: %w: %w", body, err, ErrNoEvidence)
		}
		return t, nil
	}
	first, err := next()
	if err != nil {
		return answer{}, err
	}
	seen := map[string]bool{}
	switch first := first.(type) {
	case json.Number:
		a.requests, err = whole(first.String())
		seen["requests"] = true
	case json.Delim:
		err = fields(&a, first, seen, dec.More, next)
	default:
		err = fmt.Errorf("body %.80q is neither a number nor an object: %w", body, ErrNoEvidence)
	}
	if err != nil {
		return answer{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return answer{}, fmt.Errorf("body %.80q has something behind its end: %w", body, ErrNoEvidence)
	}
	if !seen["requests"] {
		return answer{}, fmt.Errorf("body %.80q has no field requests: %w", body, ErrNoEvidence)
	}
	a.hasSessions = seen["sessions"]
	return a, nil
}

// fields reads the fields of an object after its first delimiter.
func fields(a *answer, first json.Delim, seen map[string]bool, more func() bool, next func() (json.Token, error)) error {
	if first != '{' {
		return fmt.Errorf("the body is neither a number nor an object: %w", ErrNoEvidence)
	}
	places := map[string]*int{"requests": &a.requests, "upgraded": &a.upgraded, "sessions": &a.sessions}
	for more() {
		key, err := next()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		to := places[name]
		if to == nil || seen[name] {
			return fmt.Errorf("field %q is unknown, or there twice: %w", name, ErrNoEvidence)
		}
		seen[name] = true
		value, err := next()
		if err != nil {
			return err
		}
		n, ok := value.(json.Number)
		if !ok {
			return fmt.Errorf("field %q is not a number: %w", name, ErrNoEvidence)
		}
		if *to, err = whole(n.String()); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	_, err := next()
	return err
}

// whole reads a whole number that is not negative, as plain digits.
func whole(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n > math.MaxInt32 || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%.40q is not a whole number: %w", text, ErrNoEvidence)
	}
	return int(n), nil
}
