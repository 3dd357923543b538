package proxy_test

import (
	"fmt"
	"os"
	"runtime/pprof"
	"testing"

	"github.com/abswap/abswap/switcher/proxy/process"
)

// TestMain fails the run if goroutines are left that nothing can wake, where the runtime can tell: GOEXPERIMENT=goroutineleakprofile.
func TestMain(m *testing.M) {
	if addr := os.Getenv(process.EnvAddress); addr != "" {
		application(addr) // this very program, started by a process slot
		return
	}
	code := m.Run()
	if p := pprof.Lookup("goroutineleak"); p != nil {
		if p.WriteTo(os.Stdout, 1); p.Count() > 0 {
			fmt.Println("goroutines left:", p.Count())
			code = 1
		}
	}
	os.Exit(code)
}
