package abswap_test

import "golang.org/x/sys/windows"

// underWine tells whether this Windows is Wine, where each look at a file costs several messages to another process.
func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}
