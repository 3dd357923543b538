package appcmd

import (
	"context"
	"strings"
)

// one picks the object of that name: a list of one name may answer with more, or with another.
func one[T any](all []T, err error, cmd Command, nameOf func(T) string, name string) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	for _, x := range all {
		if strings.EqualFold(nameOf(x), name) {
			return x, nil
		}
	}
	return none, &Error{Command: cmd.String(), Exit: 1, Class: NotFound}
}

// read holds the lock for one read, which is tried again as Run says.
func read[T any](ctx context.Context, c *Client, f func(context.Context, *Session) (T, error)) (T, error) {
	var v T
	err := c.again(ctx, retryRead, func() error {
		return c.Hold(ctx, func(ctx context.Context, s *Session) (err error) {
			v, err = f(ctx, s)
			return err
		})
	})
	return v, err
}

func retryRead(err error) bool {
	class := ClassOf(err)
	return class == Conflict || class == Transient
}

// Sites is Session.Sites.
func (c *Client) Sites(ctx context.Context) ([]Site, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]Site, error) { return s.Sites(ctx) })
}

// Site is Session.Site.
func (c *Client) Site(ctx context.Context, name string) (Site, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) (Site, error) { return s.Site(ctx, name) })
}

// Pools is Session.Pools.
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]Pool, error) { return s.Pools(ctx) })
}

// Pool is Session.Pool.
func (c *Client) Pool(ctx context.Context, name string) (Pool, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) (Pool, error) { return s.Pool(ctx, name) })
}

// Apps is Session.Apps.
func (c *Client) Apps(ctx context.Context, site string) ([]App, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]App, error) { return s.Apps(ctx, site) })
}

// VDirs is Session.VDirs.
func (c *Client) VDirs(ctx context.Context, app string) ([]Directory, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]Directory, error) { return s.VDirs(ctx, app) })
}

// WorkerProcesses is Session.WorkerProcesses.
func (c *Client) WorkerProcesses(ctx context.Context) ([]WorkerProcess, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]WorkerProcess, error) { return s.WorkerProcesses(ctx) })
}

// Requests is Session.Requests.
func (c *Client) Requests(ctx context.Context, f RequestFilter) ([]Request, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]Request, error) { return s.Requests(ctx, f) })
}

// Config is Session.Config.
func (c *Client) Config(ctx context.Context, location, section string) (*Element, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) (*Element, error) { return s.Config(ctx, location, section) })
}

// Backups is Session.Backups.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	return read(ctx, c, func(ctx context.Context, s *Session) ([]Backup, error) { return s.Backups(ctx) })
}
