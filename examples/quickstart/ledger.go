package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// firstTraffic is the line that an application process writes at its first request that is not a probe.
const firstTraffic = "traffic"

// ledger is where one application process writes down what was delivered to it, so that the judge can compare that with what the
// clients sent: nothing missing, nothing twice, and nothing at all where no traffic belongs. Each entry is one line and one write, so
// that several processes may be killed at any time and no line is torn or lost.
type ledger struct{ file *os.File }

// openLedger creates the file of this process in dir.
func openLedger(dir, version, slot string) (*ledger, error) {
	f, err := os.CreateTemp(dir, version+"@"+slot+"-*.ledger")
	if err != nil {
		return nil, err
	}
	return &ledger{f}, nil
}

// write adds a line. It is safe for concurrent use.
func (l *ledger) write(line string) error {
	_, err := l.file.WriteString(line + "\n")
	return err
}

// deliveries is what all ledgers together say.
type deliveries struct {
	times   map[string]int  // how often each ID was delivered
	traffic map[string]bool // versions that were asked anything but probes
}

// readLedgers reads all ledgers in dir.
func readLedgers(dir string) (deliveries, error) {
	d := deliveries{times: map[string]int{}, traffic: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.ledger"))
	if err != nil {
		return d, err
	}
	for _, name := range files {
		version, _, _ := strings.Cut(filepath.Base(name), "@")
		if err := d.read(name, version); err != nil {
			return d, fmt.Errorf("ledger: %w", err)
		}
	}
	return d, nil
}

func (d deliveries) read(name, version string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		d.traffic[version] = true
		if line := lines.Text(); line != firstTraffic {
			d.times[line]++
		}
	}
	return lines.Err()
}
