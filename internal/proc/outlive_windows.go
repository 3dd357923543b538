package proc

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

// DiesWithUs says why what Launch starts would be ended together with this process; "": nothing speaks for it. On Windows: this process
// is in a job that ends its processes with itself and lets none go.
func DiesWithUs() (string, error) {
	var in int32
	if r, _, err := procIsProcInJob.Call(uintptr(windows.CurrentProcess()), 0, uintptr(unsafe.Pointer(&in))); r == 0 {
		return "", os.NewSyscallError("IsProcessInJob", err)
	}
	if in == 0 {
		return "", nil
	}
	limits := &windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	var pin runtime.Pinner // its address goes through a uintptr
	pin.Pin(limits)
	defer pin.Unpin()
	err := windows.QueryInformationJobObject(0, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(limits)), uint32(unsafe.Sizeof(*limits)), nil)
	if err != nil {
		return "", os.NewSyscallError("QueryInformationJobObject", err)
	}
	flags := limits.BasicLimitInformation.LimitFlags
	const goes = windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK | windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK
	if flags&windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE != 0 && flags&goes == 0 {
		return "it runs in a job that ends its processes when it is closed and lets none out", nil
	}
	return "", nil
}
