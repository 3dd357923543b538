package arrdemo_test

import (
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/arrdemo"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that this program is also run as
	iistest.Main()
	os.Exit(m.Run())
}

// TestMachineIsFit: the machine is one on which the checks find nothing, but that it was never switched, and its farm leads to both sites.
func TestMachineIsFit(t *testing.T) {
	m, err := arrdemo.New(arrdemo.Spec{Name: "arrdemo", Blue: arrdemo.Folder{Name: "b&b", Release: "v1"}, Green: arrdemo.Folder{Name: "g", Release: "v0"}, Builds: []string{"v2"},
		Open: func(dir string) (http.Handler, error) { return http.FileServer(http.Dir(dir)), nil }})
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	require.Len(t, m.Builds, 1)
	assert.FileExists(t, m.Builds[0]+"/release.txt")
	cfg := arr.Config{Farm: arrdemo.Farm, Pool: arrdemo.Pool, Slots: map[string][]string{"blue": {"mysite-blue"}, "green": {"mysite-green"}}}
	require.NoError(t, m.Fit(&cfg))
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sw.Close()) }()
	c := m.Client()
	defer c.CloseIdleConnections()
	ask := func() string {
		resp, err := c.Get("http://" + arrdemo.Host + "/release.txt")
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", text)
		return string(text)
	}
	assert.NotEmpty(t, ask())
	require.NoError(t, sw.Check(t.Context(), abswap.CheckRequest{Stops: true, Drain: abswap.DrainOptions{Timeout: 1}}))
	for slot, want := range map[string]string{"blue": "v1\n", "green": "v0\n"} {
		require.NoError(t, sw.Activate(t.Context(), &abswap.HTTPSlot{ID: slot}))
		assert.Equal(t, want, ask())
	}
}
