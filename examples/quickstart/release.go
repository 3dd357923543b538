package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap"
)

// How a release behaves. A real one would not say so; these must, so that there is something to guard against.
const (
	healthy      = "healthy"
	neverHealthy = "never healthy" // it starts, listens, and never says that it is fit
	getsSick     = "gets sick"     // it is fit until SickAfter has passed since its first request
)

const releaseFile = "release.json"

// release is what lies in a release's folder: its version, and how this one behaves.
type release struct {
	Version   string        `json:"version"`
	Behaviour string        `json:"behaviour"`
	SickAfter time.Duration `json:"sickAfter,omitempty"`
	Ledger    string        `json:"ledger"` // folder into which the application writes what was delivered to it
}

// build makes the release's folder under dir, as a build server would.
func (r release) build(dir string) (abswap.Release, error) {
	path := filepath.Join(dir, r.Version)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return abswap.Release{}, err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return abswap.Release{}, err
	}
	if err := os.WriteFile(filepath.Join(path, releaseFile), b, 0o644); err != nil {
		return abswap.Release{}, err
	}
	return abswap.Release{ID: r.Version, Path: path}, nil
}

// readRelease reads the release that lies in dir.
func readRelease(dir string) (release, error) {
	var r release
	b, err := os.ReadFile(filepath.Join(dir, releaseFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", releaseFile, err)
	}
	return r, nil
}
