package process_test

import "syscall"

// childPlaces says where the application's children are begun: in its own group, in a new group.
var childPlaces = []*syscall.SysProcAttr{{}, {CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}}
