package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExampleConfigHoldsTheDefaults makes sure that the manual is right.
func TestExampleConfigHoldsTheDefaults(t *testing.T) {
	got, err := loadConfig("deploytool.example.yaml")
	require.NoError(t, err)
	want := defaults()
	want.file = got.file
	here := func(path string) string { // what is absolute on one system is not on another
		if path = filepath.FromSlash(path); filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(filepath.Dir(got.file), path)
	}
	want.Listen, want.State, want.Releases = "0.0.0.0:8080", here("/var/lib/deploytool"), here("/srv/releases")
	want.Control = "unix:" + here("/var/lib/deploytool/control.sock")
	want.Slots = []slotConfig{{Name: "blue"}, {Name: "green"}}
	want.App.Command = []string{"./server"}
	// Empty lists and sections stand in the file.
	want.Deploy.Drain.Classes = map[string]classConfig{}
	want.TrustedPeers, want.App.Warm, want.Deploy.Steps, want.Deploy.Approve, want.App.Env = []string{}, []string{}, []int{}, []int{}, map[string]string{}
	assert.Equal(t, &want, got)
}

const goodConfig = `listen: 127.0.0.1:8080
state: state
slots:
  - name: blue
  - name: green
app:
  command: [./server]
`

func TestBadConfigs(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{
			`c.yaml: listen: missing: where the site is reached, as in "0.0.0.0:80"`,
			`c.yaml: state: missing: the folder for journal, slots and control socket`,
			`c.yaml: slots: 0 slots, at least two are needed: one serves while the other gets the next release`,
			`c.yaml: app.command: missing: the program and its arguments, as in ["./server"]`,
		}},
		{"unknown keys at every level", goodConfig + "lisen: x\ndeploy:\n  soke: 1s\n  drain: {time_out: 1s}\n", []string{
			`c.yaml:8: unknown key "lisen"`, `c.yaml:10: unknown key "soke"`, `c.yaml:11: unknown key "time_out"`}},
		{"wrong types", goodConfig + "keep_swaps: many\ntrusted_peers: no\nsupervise: [1]\n", []string{
			`c.yaml:8: a whole number expected, not "many"`, `c.yaml:9: a list expected, not "no"`, `c.yaml:10: a section with keys expected, not a list`}},
		{"durations and words", goodConfig + "shutdown: 30\ndeploy:\n  soak: -1s\n  retain: forever\n  occupied: maybe\n  drain: {timeout: 1 hour, at_deadline: kill}\n",
			[]string{`c.yaml:8: "30" is not a duration`, `c.yaml:10: "-1s" is not a duration`, `c.yaml:11: "forever" is neither "until-needed" nor a duration`,
				`c.yaml:12: "maybe" is not one of refuse, wait, cut`, `c.yaml:13: "1 hour" is not a duration`, `c.yaml:13: "kill" is not one of leave-up,`}},
		{"classes", goodConfig + "deploy:\n  drain:\n    classes:\n      sse: {}\n      session: {}\n      upload: {policy: finish-moving, still: 0s}\n" +
			"      stream: {policy: close, still: 1m}\n      request: {window: 1s}\n      tunnel: {grace: 1s}\n", []string{
			`c.yaml:11: deploy.drain.classes.sse: "sse" is no class: they are request, upload, download, stream, tunnel`,
			`c.yaml:12: deploy.drain.classes.session: "session" is no class`, `c.yaml:13: deploy.drain.classes.upload.still: 0s would end all`,
			`c.yaml:14: deploy.drain.classes.stream.still: it is of finish-moving, and the policy is close`,
			`c.yaml:15: deploy.drain.classes.request.window: it is of close, and the policy is finish`,
			`c.yaml:16: deploy.drain.classes.tunnel.grace: nothing of this class is asked to end`}},
		{"keys of classes", goodConfig + "deploy:\n  drain:\n    classes:\n      upload: {polcy: close}\n      stream: {policy: kill}\n      tunnel: {cap: soon}\n" +
			"      request: close\n", []string{`c.yaml:11: unknown key "polcy"`, `c.yaml:12: "kill" is not one of finish, finish-moving, close`,
			`c.yaml:13: "soon" is not a duration`, `c.yaml:14: a section with keys expected, not "close"`}},
		{"a key twice", goodConfig + "listen: 127.0.0.1:9090\n", []string{`c.yaml:8: mapping key "listen" already defined at line 1`}},
		{"no YAML", "listen: [\n", []string{`c.yaml:1: did not find expected node content`}},
		{"two documents", goodConfig + "---\n" + goodConfig, []string{`c.yaml: the file holds more than one document`}},
		{"steps and approvals", goodConfig + "deploy:\n  steps:\n    - 25\n    - 5\n    - 100\n  approve: [0, 25, 30, 100]\n", []string{
			`c.yaml:11: deploy.steps[1]: 5 comes after 25: steps rise`, `c.yaml:12: deploy.steps[2]: 100 is not within 1 to 99`,
			`c.yaml:13: deploy.approve[2]: 30 is neither 0, nor one of steps, nor 100`}},
		{"exclusive in steps", goodConfig + "deploy: {steps: [5], exclusive: yes please}\n", []string{`c.yaml:8: true or false expected, not "yes please"`}},
		{"exclusive in steps", goodConfig + "deploy:\n  steps: [5]\n  exclusive: true\n  hold: 0s\n", []string{
			`c.yaml:10: deploy.exclusive: the versions never work at the same time`, `c.yaml:11: deploy.hold: a hold of 0`}},
		{"slots", strings.Replace(goodConfig, "  - name: green\n", "  - name: blue\n  - address: 127.0.0.1:5001\n", 1), []string{
			`c.yaml:5: slots[1].name: "blue" is the name of another slot too`, `c.yaml: slots[2].name: missing`}},
		{"addresses", strings.Replace(goodConfig, "8080", "0", 1) + "control: 10.0.0.1\ntrusted_peers: [10.0.0.1]\n", []string{
			`c.yaml:1: listen: port "0" is not within 1 to 65535`, `c.yaml:8: control: "10.0.0.1" is neither "unix:/path" nor a loopback address with a port`,
			`c.yaml:9: trusted_peers[0]: "10.0.0.1" is not a network`}},
		{"control on all networks", goodConfig + "control: 0.0.0.0:7070\n", []string{`c.yaml:8: control: proxy: client: address "0.0.0.0:7070": "0.0.0.0" is not localhost`}},
		{"a socket's path too long", goodConfig + "control: unix:/" + strings.Repeat("x", 200) + "\n", []string{`c.yaml:8: control: `}},
		{"supervisor", goodConfig + "supervise:\n  backoff_first: 0s\n  deaths: 0\n  pause: 0s\n", []string{
			`c.yaml:9: supervise.backoff_first: a pause of 0 would be a busy loop`, `c.yaml:10: supervise.deaths: 0 is below 1`, `c.yaml:11: supervise.pause`}},
		{"what a slot refuses", goodConfig + "  health: healthz\n  env: {PORT: \"80\"}\n", []string{
			`c.yaml:4: slots[0]: process slot "blue": `}},
		{"what the proxy refuses", goodConfig + "release_header: Content-Length\n", []string{`c.yaml: proxy: Config.ReleaseHeader`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "c") // a socket's path must be short
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
			t.Chdir(dir)
			require.NoError(t, os.WriteFile("c.yaml", []byte(tt.text), 0o600))
			_, err = loadConfig("c.yaml")
			require.Error(t, err)
			lines := strings.Split(err.Error(), "\n")
			require.Len(t, lines, len(tt.want), "%s", err)
			for _, want := range tt.want { // all at once
				found := false
				for _, line := range lines {
					found = found || strings.HasPrefix(line, want)
				}
				assert.True(t, found, "no line begins with %q in\n%s", want, err)
			}
		})
	}
}

func TestConfigPathsAreTakenFromTheFilesFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(goodConfig+"releases: ../r\ncontrol: unix:run/c.sock\n"), 0o600))
	c, err := loadConfig(path)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "state"), c.State)
	assert.Equal(t, filepath.Join(filepath.Dir(dir), "r"), c.Releases)
	assert.Equal(t, "unix:"+filepath.Join(dir, "run", "c.sock"), c.Control)
}
