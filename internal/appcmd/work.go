package appcmd

import "time"

// WorkerProcess is a process that serves a pool.
type WorkerProcess struct {
	PID  int    `json:"pid"`
	Pool string `json:"pool"`
}

// Request is one that a worker process is executing. Fields that were not shown are zero: released versions of IIS spell the attributes in
// two ways at least, both are read. A request that waits in the queue of HTTP.sys, not yet taken by a worker process, is not listed at all.
type Request struct {
	ID     string        `json:"id"`
	SiteID uint32        `json:"siteID,omitempty"`
	PID    int           `json:"pid,omitempty"`
	Pool   string        `json:"pool,omitempty"`
	URL    string        `json:"url"`
	Verb   string        `json:"verb,omitempty"`
	Client string        `json:"client,omitempty"`
	Stage  string        `json:"stage,omitempty"`
	Module string        `json:"module,omitempty"`
	Time   time.Duration `json:"time"` // since it began
}

// Backup is a backup of the server's configuration.
type Backup struct {
	Name string `json:"name"`
}
