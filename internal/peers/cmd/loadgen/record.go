//go:build linux

package main

import (
	"errors"
	"os"

	"github.com/abswap/abswap/internal/peers/internal/trace"
)

// writeTrace keeps what happened to each request.
func writeTrace(file, name string, recs []record, swaps []swapLog, due func(int) int64) error {
	t := &trace.Trace{Name: name}
	for _, s := range swaps {
		t.Swaps = append(t.Swaps, trace.Swap{To: s.To[0], Cmd: float64(s.Cmd) / 1e3, Ack: float64(s.Ack) / 1e3})
	}
	for i, r := range recs {
		q := trace.Request{Due: float64(due(i)) / 1e3, Latency: float64(r.done-due(i)) / 1e3, Version: r.ver}
		if r.err != ok {
			q.Version, q.Failed = '-', errNames[r.err]
		}
		t.Requests = append(t.Requests, q)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(t.Write(f), f.Close())
}
