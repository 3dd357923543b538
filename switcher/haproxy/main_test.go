package haproxy_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain lets more tests run at one time than there are processors: most of their time they wait for HAProxy.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
