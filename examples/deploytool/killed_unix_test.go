//go:build unix

package main

// killedCode is the exit code of a process that was killed, as os/exec tells it.
const killedCode = -1

// underWine tells whether this is Windows as Wine makes it.
func underWine() bool { return false }
