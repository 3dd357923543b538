package proxy

import (
	"sync"
	"time"
)

// leases are the holds that other processes have asked for. One that is not renewed ends.
type leases struct {
	mu    sync.Mutex
	byID  map[string]*lease
	lasts time.Duration
}

type lease struct {
	release func()
	timer   *time.Timer
}

func newLeases(lasts time.Duration) *leases {
	if lasts == 0 {
		lasts = 5 * time.Second
	}
	return &leases{byID: map[string]*lease{}, lasts: lasts}
}
