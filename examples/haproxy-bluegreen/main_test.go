package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestShow(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		const how = "haproxy is not in PATH: apt-get install -y haproxy (Debian and Ubuntu put it into /usr/sbin)"
		if os.Getenv("ABSWAP_ENGINES") == "required" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	var out strings.Builder
	assert.Equal(t, exitOK, run(t.Context(), &out), "%s", &out)
	assert.Contains(t, out.String(), "the upload was taken whole, by v1")
	assert.Contains(t, out.String(), ", 0 lost, 0 answered by")
}

func TestWithoutHAProxyItSaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out strings.Builder
	assert.Equal(t, exitUnable, run(t.Context(), &out))
	assert.Contains(t, out.String(), "apt-get install haproxy")
}
