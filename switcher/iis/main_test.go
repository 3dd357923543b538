package iis_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/abswap/abswap/switcher/iistest"
)

// TestMain lets this program stand for appcmd.exe where a test runs it as that, and lets more tests run at one time than there are
// processors: most of their time they wait.
func TestMain(m *testing.M) {
	iistest.Main()
	if child() {
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
