package main

import "syscall"

// killedCode is the exit code of a process that was killed, as os/exec tells it: TerminateProcess gives 1.
const killedCode = 1

// underWine tells whether this is Windows as Wine makes it.
func underWine() bool {
	return syscall.NewLazyDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}
