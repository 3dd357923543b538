//go:build unix

package main

// killedCode is the exit code of a process that was killed, as os/exec tells it.
const killedCode = -1
