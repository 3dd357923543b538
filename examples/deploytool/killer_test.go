package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	killers "github.com/abswap/abswap/examples/internal/killer"
)

// killEnv tells a deploytool that is started by a test at which record it dies: see killers.Journal.
const killEnv = "DEPLOYTOOL_TEST_KILL"

// killer wraps the journal so that the process is killed as killEnv says.
func killer(open func(string, abswap.JournalOptions) (abswap.Journal, error)) func(string, abswap.JournalOptions) (abswap.Journal, error) {
	return func(dir string, o abswap.JournalOptions) (abswap.Journal, error) {
		j, err := open(dir, o)
		if err != nil {
			return nil, err
		}
		return killers.Journal(j, dir, os.Getenv(killEnv))
	}
}

// finishTear does what a tool that died in the midst of a record had to leave.
func (m *machine) finishTear(t *testing.T) {
	t.Helper()
	require.NoError(t, killers.FinishTear(filepath.Join(m.dir, "state", "journal")))
}
