package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/abswap/abswap"
)

// config is the config file. deploytool.example.yaml has every key with its default and what it means.
type config struct {
	Listen        string       `yaml:"listen"`
	State         string       `yaml:"state"`
	Control       string       `yaml:"control"`
	Releases      string       `yaml:"releases"`
	ReleaseHeader string       `yaml:"release_header"`
	TrustedPeers  []string     `yaml:"trusted_peers"`
	Shutdown      duration     `yaml:"shutdown"`
	KeepSwaps     int          `yaml:"keep_swaps"`
	Slots         []slotConfig `yaml:"slots"`
	App           appConfig    `yaml:"app"`
	Deploy        deployConfig `yaml:"deploy"`
	Supervise     superConfig  `yaml:"supervise"`

	file string // where it was read from, absolute
}

type slotConfig struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
}

type appConfig struct {
	Command      []string          `yaml:"command"`
	Env          map[string]string `yaml:"env"`
	PortEnv      string            `yaml:"port_env"`
	Health       string            `yaml:"health"`
	Host         string            `yaml:"host"`
	ReadyTimeout duration          `yaml:"ready_timeout"`
	Warm         []string          `yaml:"warm"`
	WarmRounds   int               `yaml:"warm_rounds"`
	Grace        duration          `yaml:"grace"`
	StopPath     string            `yaml:"stop_path"`
}

type deployConfig struct {
	Steps    []int         `yaml:"steps"`
	Soak     duration      `yaml:"soak"`
	Approve  []int         `yaml:"approve"`
	Alone    bool          `yaml:"exclusive"`
	Hold     duration      `yaml:"hold"`
	Drain    drainConfig   `yaml:"drain"`
	Retain   retention     `yaml:"retain"`
	Occupied occupied      `yaml:"occupied"`
	Timeouts timeoutConfig `yaml:"timeouts"`
}

type drainConfig struct {
	Timeout    duration               `yaml:"timeout"`
	AtDeadline atDeadline             `yaml:"at_deadline"`
	Grace      duration               `yaml:"grace"`
	Classes    map[string]classConfig `yaml:"classes"`
}

type timeoutConfig struct {
	Install duration `yaml:"install"`
	Start   duration `yaml:"start"`
	Warm    duration `yaml:"warm"`
	Shift   duration `yaml:"shift"`
	Stop    duration `yaml:"stop"`
	Revert  duration `yaml:"revert"`
}

type superConfig struct {
	BackoffFirst duration `yaml:"backoff_first"`
	BackoffMax   duration `yaml:"backoff_max"`
	Deaths       int      `yaml:"deaths"`
	Within       duration `yaml:"within"`
	Pause        duration `yaml:"pause"`
}

// defaults is the config of an empty file.
func defaults() config {
	return config{
		ReleaseHeader: "X-Abswap-Release",
		Shutdown:      duration(time.Minute),
		KeepSwaps:     50,
		App:           appConfig{PortEnv: "PORT", Health: "/healthz", ReadyTimeout: duration(5 * time.Second), WarmRounds: 3, Grace: duration(30 * time.Second)},
		Deploy: deployConfig{
			Soak:   duration(10 * time.Second),
			Hold:   duration(10 * time.Second),
			Drain:  drainConfig{Timeout: duration(time.Hour), Grace: duration(30 * time.Second)},
			Retain: untilNeeded,
			Timeouts: timeoutConfig{Install: duration(10 * time.Minute), Start: duration(2 * time.Minute), Warm: duration(5 * time.Minute),
				Shift: duration(30 * time.Second), Stop: duration(2 * time.Minute), Revert: duration(2 * time.Minute)},
		},
		Supervise: superConfig{BackoffFirst: duration(time.Second), BackoffMax: duration(time.Minute), Deaths: 5, Within: duration(5 * time.Minute),
			Pause: duration(10 * time.Minute)},
	}
}

// duration is written as "1h30m", "30s", "250ms".
type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < 0 {
		return mistakeAt(n, `%q is not a duration: write it as "1h30m", "30s" or "250ms"`, n.Value)
	}
	*d = duration(v)
	return nil
}

// retention says how long a drained old slot is kept warm.
type retention time.Duration

const untilNeeded retention = -1

func (r *retention) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "until-needed" {
		*r = untilNeeded
		return nil
	}
	v, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < 0 {
		return mistakeAt(n, `%q is neither "until-needed" nor a duration such as "1h"`, n.Value)
	}
	*r = retention(v)
	return nil
}

type atDeadline abswap.AtDeadline

func (a *atDeadline) UnmarshalYAML(n *yaml.Node) error {
	words := map[string]abswap.AtDeadline{"leave-up": abswap.LeaveUp, "keep-waiting": abswap.KeepWaiting, "hand-over": abswap.HandOver, "cut-off": abswap.CutOff}
	v, ok := words[n.Value]
	if !ok {
		return mistakeAt(n, "%q is not one of leave-up, keep-waiting, hand-over, cut-off", n.Value)
	}
	*a = atDeadline(v)
	return nil
}

type occupied abswap.Occupied

func (o *occupied) UnmarshalYAML(n *yaml.Node) error {
	words := map[string]abswap.Occupied{"refuse": abswap.OccupiedRefuse, "wait": abswap.OccupiedWait, "cut": abswap.OccupiedCut}
	v, ok := words[n.Value]
	if !ok {
		return mistakeAt(n, "%q is not one of refuse, wait, cut", n.Value)
	}
	*o = occupied(v)
	return nil
}

// mistakeAt is an error in the form in which the decoder collects them.
func mistakeAt(n *yaml.Node, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: ", n.Line) + fmt.Sprintf(format, args...)}}
}

// loadConfig reads the config file. The error is a configError with all mistakes in it. Relative paths in the file are taken from the
// file's folder; in the result they are absolute.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w; name one with -config or in %s", err, configEnv)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c := defaults()
	c.file = abs
	found := mistakes{file: path}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	switch err := dec.Decode(&c); {
	case errors.Is(err, io.EOF): // an empty file
	case err != nil:
		if !found.decoder(err) {
			return nil, found.err() // it is no YAML: nothing more can be said
		}
	default:
		if dec.Decode(new(yaml.Node)) != io.EOF {
			found.add(0, "the file holds more than one document")
		}
	}
	if err := yaml.Unmarshal(text, &found.root); err != nil {
		return nil, err
	}
	c.resolve(filepath.Dir(abs))
	c.check(&found)
	return &c, found.err()
}

// resolve makes the paths absolute and fills in those that follow from others.
func (c *config) resolve(dir string) {
	for _, p := range []*string{&c.State, &c.Releases} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Control == "" && c.State != "" {
		c.Control = "unix:" + filepath.Join(c.State, "control.sock")
	}
	if p, ok := strings.CutPrefix(c.Control, "unix:"); ok && !filepath.IsAbs(p) {
		c.Control = "unix:" + filepath.Join(dir, p)
	}
}
