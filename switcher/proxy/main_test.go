package proxy_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"

	"github.com/abswap/abswap/switcher/proxy/process"
)

// TestMain lets more tests run at one time than there are processors, as those that are parallel wait more than they work. It fails the run if
// goroutines are left that nothing can wake, where the runtime can tell: GOEXPERIMENT=goroutineleakprofile.
func TestMain(m *testing.M) {
	if addr := os.Getenv(process.EnvAddress); addr != "" {
		application(addr) // this very program, started by a process slot
		return
	}
	if runtime.GOOS != "windows" { // under Wine one process serves all their calls: more at a time take no less
		if err := flag.Set("test.parallel", "8"); err != nil { // the command line goes before this
			panic(err)
		}
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
