package nginx_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var full = flag.Bool("nginx.full", false, "swap 100 times under load, not 5 times")

// TestMain lets more tests run at one time than there are processors: most of their time they wait for nginx.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
