package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abswap/abswap/internal/peers/internal/trace"
)

func TestThePictureShowsWhatIsInTheTrace(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, failed string) string {
		tr := &trace.Trace{Name: name, Swaps: []trace.Swap{{To: 'B', Cmd: 100e3, Ack: 102.5e3}}}
		for i := range 300 {
			tr.Requests = append(tr.Requests, trace.Request{Due: float64(i) * 1e3, Latency: 200, Version: 'A' + byte(i/100%2)})
		}
		tr.Requests[110].Failed = failed
		path := filepath.Join(dir, "trace")
		f, err := os.Create(path + failed)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(tr.Write(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		return path + failed
	}
	out := filepath.Join(dir, "out.svg")
	if err := run(out, []string{file("ours", ""), file("<theirs>", "reset")}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(string(b)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
	for what, n := range map[string]int{">ours<": 1, "&lt;theirs&gt;": 1, "acknowledged after 2.50 ms": 2, "1 failed requests": 1, "<circle": 1, "<polyline": 8} {
		if got := strings.Count(string(b), what); got != n {
			t.Errorf("%q is there %d times, not %d", what, got, n)
		}
	}
}

func TestWhatCannotBeDrawnIsToldOf(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("trace x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, files := range [][]string{nil, {filepath.Join(dir, "none")}, {empty}} {
		if err := run(filepath.Join(dir, "out.svg"), files); err == nil {
			t.Errorf("%q is drawn", files)
		}
	}
}
