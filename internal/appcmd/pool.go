package appcmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Pool is an application pool. What is configuration is only known where it was listed with it; what is not shown then has the default of
// IIS, named at each field.
type Pool struct {
	Name           string `json:"name"`
	State          State  `json:"state"`          // Unknown if it was read from configuration alone
	PipelineMode   string `json:"pipelineMode"`   // Integrated or Classic
	RuntimeVersion string `json:"runtimeVersion"` // "v4.0"; "": no managed code

	AutoStart                      bool          `json:"autoStart"`                      // true
	StartMode                      string        `json:"startMode"`                      // OnDemand; or AlwaysRunning
	QueueLength                    uint32        `json:"queueLength"`                    // 1000
	ShutdownTimeLimit              time.Duration `json:"shutdownTimeLimit"`              // 90s; then what still runs is killed
	StartupTimeLimit               time.Duration `json:"startupTimeLimit"`               // 90s
	IdleTimeout                    time.Duration `json:"idleTimeout"`                    // 20m; 0: never
	MaxProcesses                   uint32        `json:"maxProcesses"`                   // 1; more: a web garden
	PeriodicRestart                time.Duration `json:"periodicRestart"`                // 29h; 0: never
	DisallowOverlappingRotation    bool          `json:"disallowOverlappingRotation"`    // false; true: the old process stops before the new one starts
	DisallowRotationOnConfigChange bool          `json:"disallowRotationOnConfigChange"` // false

	Config *Element `json:"-"` // the element <add>; nil: it was listed without configuration, and all from AutoStart on are defaults
}

func defaultPool() Pool {
	return Pool{State: Unknown, PipelineMode: "Integrated", AutoStart: true, StartMode: "OnDemand", QueueLength: 1000,
		ShutdownTimeLimit: 90 * time.Second, StartupTimeLimit: 90 * time.Second, IdleTimeout: 20 * time.Minute, MaxProcesses: 1,
		PeriodicRestart: 29 * time.Hour}
}

// ParseTimeSpan reads a time span as the configuration has it, [d.]hh:mm:ss[.fff]; hours may be more than 23.
func ParseTimeSpan(s string) (time.Duration, error) {
	bad := func() (time.Duration, error) {
		return 0, fmt.Errorf("time span %q: want [d.]hh:mm:ss: %w", s, ErrMalformed)
	}
	parts := strings.Split(strings.TrimSpace(s), ":")
	if len(parts) != 3 {
		return bad()
	}
	days, hours, ok := strings.Cut(parts[0], ".")
	if !ok {
		days, hours = "0", parts[0]
	}
	seconds, fraction, _ := strings.Cut(parts[2], ".")
	var total time.Duration
	for _, f := range []struct {
		text string
		unit time.Duration
		most int
	}{{days, 24 * time.Hour, maxDays}, {hours, time.Hour, 10_000}, {parts[1], time.Minute, 59}, {seconds, time.Second, 59}} {
		n, err := strconv.Atoi(f.text)
		if err != nil || n > f.most || f.text[0] < '0' {
			return bad()
		}
		total += time.Duration(n) * f.unit
	}
	if fraction != "" {
		if len(fraction) > 9 {
			return bad()
		}
		n, err := strconv.Atoi(fraction + "000000000"[len(fraction):])
		if err != nil || fraction[0] < '0' {
			return bad()
		}
		total += time.Duration(n)
	}
	if total > maxDays*24*time.Hour {
		return bad()
	}
	return total, nil
}

// maxDays is the longest time span that is read: a Duration holds little more.
const maxDays = 100_000

// FormatTimeSpan writes d as the configuration has it, in whole seconds.
func FormatTimeSpan(d time.Duration) string {
	s := max(0, int64(d/time.Second))
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d.%s", days, text)
	}
	return text
}
