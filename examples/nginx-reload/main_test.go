package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStory is the program in a short form, on a real nginx.
func TestStory(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		const how = "nginx is not in PATH: apt-get install -y nginx-light (Debian and Ubuntu put it into /usr/sbin)"
		if os.Getenv("ABSWAP_ENGINES") == "required" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	var out, errOut strings.Builder
	code := run(t.Context(), []string{"-deploys", "2", "-clients", "2", "-upload", "1s", "-soak", "500ms"}, &out, &errOut)
	require.Zero(t, code, "%s\n%s", &out, &errOut)
	assert.Empty(t, errOut.String())
	assert.Regexp(t, regexp.MustCompile(`[1-9]\d* requests: 0 lost, 0 late; 3 uploads: 0 cut`), out.String())
	assert.Contains(t, out.String(), "it was sick, and is back where it was")
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-deploys", "0"}, {"-nonsense"}, {"more"}} {
		var out, errOut strings.Builder
		assert.Equal(t, 2, run(t.Context(), args, &out, &errOut), args)
		assert.NotEmpty(t, errOut.String())
	}
}
