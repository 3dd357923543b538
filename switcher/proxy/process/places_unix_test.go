//go:build unix

package process_test

import "syscall"

// childPlaces says where the application's children are begun: in its own group, in a new group, in a session of their own.
var childPlaces = []*syscall.SysProcAttr{{}, {Setpgid: true}, {Setsid: true}}
