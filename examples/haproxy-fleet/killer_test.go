package main

import (
	"os"

	"github.com/abswap/abswap"
	killers "github.com/abswap/abswap/examples/internal/killer"
)

// killEnv tells a tool that is started by a test at which record it dies: see killers.Journal.
const killEnv = "FLEET_TEST_KILL"

// killer wraps the journal so that the process is killed as killEnv says.
func killer(open journalOpener) journalOpener {
	return func(dir string) (abswap.Journal, error) {
		j, err := open(dir)
		if err != nil {
			return nil, err
		}
		return killers.Journal(j, dir, os.Getenv(killEnv))
	}
}
