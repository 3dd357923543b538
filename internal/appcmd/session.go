package appcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Session runs commands while the lock is held. It is not safe for concurrent use.
type Session struct{ c *Client }

// defaultBlock is how long stopping may take where it is not known: the default shutdownTimeLimit of a pool.
const defaultBlock = 90 * time.Second

// Run runs cmd once, with no second try. For errors see Client.Run.
func (s *Session) Run(ctx context.Context, cmd Command) (Output, error) {
	argv, err := cmd.Argv()
	if err != nil {
		return Output{}, err
	}
	limit := s.limit(ctx, cmd)
	if ctx.Err() != nil {
		return Output{}, fmt.Errorf("%s: not run: %w", cmd, context.Cause(ctx))
	}
	began := time.Now()
	out, exit, err := s.run(ctx, cmd, argv, limit)
	var o Output
	if err == nil {
		o = Output{Text: s.c.decode(out), Exit: exit}
		err = judge(cmd, o)
	}
	if s.c.OnRun != nil {
		s.c.OnRun(cmd, &Call{Elapsed: time.Since(began), Exit: exit, Err: err})
	}
	return o, err
}

// limit is how long cmd may take; 0: without limit.
func (s *Session) limit(ctx context.Context, cmd Command) time.Duration {
	limit := or(s.c.Timeout, time.Minute)
	if limit < 0 {
		return 0
	}
	if cmd.blocks == 0 && (cmd.verb == Stop || cmd.verb == Recycle) {
		cmd.blocks = defaultBlock
		if cmd.object == PoolObject {
			if p, err := s.Pool(ctx, cmd.id); err == nil {
				cmd.blocks = p.ShutdownTimeLimit
			}
		}
	}
	return limit + cmd.blocks
}

// run runs the program for at most limit. When ctx ends, what only reads is ended at once; what changes something may finish within Grace.
func (s *Session) run(ctx context.Context, cmd Command, argv []string, limit time.Duration) ([]byte, uint32, error) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	if limit > 0 {
		t := time.AfterFunc(limit, func() { cancel(fmt.Errorf("it took longer than %v: %w", limit, context.DeadlineExceeded)) })
		defer t.Stop()
	}
	finished := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-finished:
			return
		case <-ctx.Done():
		}
		if grace := or(s.c.Grace, 2*time.Second); grace > 0 && cmd.Changes() {
			t := time.NewTimer(grace)
			defer t.Stop()
			select {
			case <-finished:
				return
			case <-t.C:
			}
		}
		cancel(context.Cause(ctx))
	}()
	out, exit, err := s.c.runner().Run(inner, argv, cmd.stdin)
	close(finished)
	<-watched
	switch {
	case err == nil:
		return out, exit, nil
	case errors.Is(err, ErrNotStarted):
		return nil, exit, fmt.Errorf("%s: %w", cmd, err)
	case cmd.Changes():
		return nil, exit, fmt.Errorf("%s: %w: %w", cmd, ErrUnknownOutcome, err)
	default:
		return nil, exit, fmt.Errorf("%s: %w", cmd, err)
	}
}

func (c *Client) runner() Runner {
	if c.Runner != nil {
		return c.Runner
	}
	return &Exec{Path: c.Path}
}

func (c *Client) decode(b []byte) string { return Decode(b, c.CodePage) }

// judge tells what went wrong by the exit code and by what was printed.
func judge(cmd Command, o Output) error {
	m, found := findMessage(o.Text)
	if o.Exit == 0 && !found {
		return nil
	}
	if cmd.verb == List && o.Exit == 1 && !found { // nothing was found; what else may be printed, the reader of the list looks at
		if strings.TrimSpace(o.Text) == "" && (cmd.object == SiteObject || cmd.object == PoolObject) {
			return &Error{Command: cmd.String(), Exit: 1, Class: NotFound}
		}
		return nil
	}
	e := &Error{Command: cmd.String(), Exit: o.Exit, HResult: m.HResult, Class: classify(o.Exit, m.HResult, m.Text)}
	switch {
	case found:
		e.Message = cmd.hide(m.Text)
	case cmd.Changes() && len(cmd.secrets()) == 0: // what a list prints may be configuration, with passwords in it
		e.Message = oneLine(o.Text)
	}
	// Without a word from appcmd itself it may have been ended by somebody, or have crashed, before or after it did its work.
	if cmd.Changes() && (e.Class == Transient || e.Class == Other && !found && strings.TrimSpace(o.Text) == "") {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, e)
	}
	return e
}

// list runs a list command and reads what it printed as XML. name is set if it is to be one object: none is NotFound then.
func (s *Session) list(ctx context.Context, cmd Command, name string) (*Document, error) {
	out, err := s.Run(ctx, cmd.XML())
	if err != nil {
		return nil, err
	}
	doc, err := Parse(out.Text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", cmd, err)
	case doc.Empty() && name != "":
		return nil, &Error{Command: cmd.String(), Exit: out.Exit, Class: NotFound}
	case doc.Empty() && out.Exit == 0 && !doc.XML:
		return nil, fmt.Errorf("%s: nothing was printed and the exit code is 0: %w", cmd, ErrTruncated)
	case len(doc.Entries) == 0 && len(doc.Status) > 0:
		return nil, fmt.Errorf("%s: lines of text instead of a list: %w", cmd, ErrMalformed)
	case !doc.Empty() && out.Exit != 0:
		return nil, &Error{Command: cmd.String(), Exit: out.Exit, Class: classify(out.Exit, 0, "")}
	}
	return doc, nil
}

// Sites returns all sites with their configuration, in the order in which they are shown. NotFound if appcmd found none and printed nothing
// at all: a machine without sites is shown as an empty list.
func (s *Session) Sites(ctx context.Context) ([]Site, error) { return s.sites(ctx, "") }

// Site returns the site that has this name; NotFound if there is none.
func (s *Session) Site(ctx context.Context, name string) (Site, error) {
	all, err := s.sites(ctx, name)
	return one(all, err, ListSites(name), func(x Site) string { return x.Name }, name)
}

func (s *Session) sites(ctx context.Context, name string) ([]Site, error) {
	cmd := ListSites(name).WithConfig()
	doc, err := s.list(ctx, cmd, name)
	if err != nil {
		return nil, err
	}
	all, err := doc.Sites()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	for _, site := range all {
		for _, app := range site.Applications {
			if app.Pool == "" {
				return all, s.fillPools(ctx, all)
			}
		}
	}
	return all, nil
}

// fillPools finds out which pools applications have that do not name one themselves.
func (s *Session) fillPools(ctx context.Context, sites []Site) error {
	apps, err := s.Apps(ctx, "")
	if err != nil {
		return err
	}
	pools := map[string]string{}
	for _, a := range apps {
		pools[AppName(a.Site, a.Path)] = a.Pool
	}
	for _, site := range sites {
		for i, app := range site.Applications {
			if app.Pool == "" {
				site.Applications[i].Pool = pools[AppName(site.Name, app.Path)]
			}
		}
	}
	return nil
}

// Pools returns all application pools with their configuration.
func (s *Session) Pools(ctx context.Context) ([]Pool, error) { return s.pools(ctx, "") }

// Pool returns the application pool that has this name; NotFound if there is none.
func (s *Session) Pool(ctx context.Context, name string) (Pool, error) {
	all, err := s.pools(ctx, name)
	return one(all, err, ListPools(name), func(x Pool) string { return x.Name }, name)
}

func (s *Session) pools(ctx context.Context, name string) ([]Pool, error) {
	cmd := ListPools(name).WithConfig()
	doc, err := s.list(ctx, cmd, name)
	return listing(cmd, doc, err, (*Document).Pools)
}

// Apps returns the applications of all sites, or of the one that is named, with the pools they are in, be they named by the application or
// not.
func (s *Session) Apps(ctx context.Context, site string) ([]App, error) {
	cmd := ListApps(site)
	doc, err := s.list(ctx, cmd, "")
	return listing(cmd, doc, err, (*Document).Apps)
}

// VDirs returns the virtual directories of all applications, or of the one that is named ("Site/", "Site/app").
func (s *Session) VDirs(ctx context.Context, app string) ([]Directory, error) {
	cmd := ListVDirs(app)
	doc, err := s.list(ctx, cmd, "")
	return listing(cmd, doc, err, (*Document).VDirs)
}

// WorkerProcesses returns the worker processes of all pools.
func (s *Session) WorkerProcesses(ctx context.Context) ([]WorkerProcess, error) {
	cmd := ListWPs("")
	doc, err := s.list(ctx, cmd, "")
	return listing(cmd, doc, err, (*Document).WorkerProcesses)
}

// Requests returns the requests that worker processes are executing, narrowed by f; NotImplemented if the feature Request Monitor is not
// installed.
func (s *Session) Requests(ctx context.Context, f RequestFilter) ([]Request, error) {
	cmd := ListRequests(f)
	doc, err := s.list(ctx, cmd, "")
	return listing(cmd, doc, err, (*Document).Requests)
}

// Config returns a section as it is for location ("": the server), with all defaults; nil if it is not shown.
func (s *Session) Config(ctx context.Context, location, section string) (*Element, error) {
	cmd := ListConfig(location, section).WithConfig()
	out, err := s.Run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	doc, err := Parse(out.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	return doc.Section(section), nil
}

// Backups returns the backups of the server's configuration.
func (s *Session) Backups(ctx context.Context) ([]Backup, error) {
	cmd := ListBackups()
	doc, err := s.list(ctx, cmd, "")
	return listing(cmd, doc, err, (*Document).Backups)
}

func listing[T any](cmd Command, doc *Document, err error, read func(*Document) ([]T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	all, err := read(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	return all, nil
}
