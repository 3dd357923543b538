package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test program the tool and the application too: they run as processes of their own.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the tests wait more than they work; the command line goes before this
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"deploytool": func() {
			if len(os.Args) > 1 && os.Args[1] != "serve" {
				time.AfterFunc(hanging-20*time.Second, tellWhere)
			}
			os.Exit(start(refereed(killer(openJournal))))
		},
		"app": appMain,
	})
}

// hanging is when a command other than serve is taken as one that hangs, and killed.
const hanging = 2 * time.Minute

// tellWhere writes where all goroutines stand.
func tellWhere() {
	stacks := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "hangs:\n%s", stacks[:runtime.Stack(stacks, true)])
}

// TestScripts runs the stories in testdata/script on the tool as it is shipped.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":   cmdAwait,
			"load":    cmdLoad,
			"endload": cmdEndLoad,
			"upload":  cmdUpload,
			"events":  cmdEvents,
			"newest":  cmdNewest,
			"watch":   cmdWatch,
			"get":     cmdGet,
			"post":    cmdPost,
			"code":    cmdCode,
			"dead":    cmdDead,
		},
		RequireUniqueNames: true,
	})
}

// base is the config of all scripts; what a script has in "more.yaml" comes behind it.
const base = `listen: LISTEN
state: state
releases: releases
shutdown: 5s
slots:
  - name: blue
  - name: green
app:
  command: [app]
  grace: 5s
`

// controlPlace is where the tests have the control plane. Windows has Unix sockets, but Wine has none: there it is on loopback.
func controlPlace() string {
	if runtime.GOOS == "windows" {
		return loopback
	}
	return ""
}

// baseConfig is base for a front door at listen, with the control plane on loopback if control says so.
func baseConfig(listen, control string) (string, error) {
	text := strings.Replace(base, "LISTEN", listen, 1)
	if control == "" {
		return text, nil
	}
	address, err := freeAddress()
	return text + "control: " + address + "\n", err
}

func setUp(env *testscript.Env) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	env.Setenv("LISTEN", listen)
	env.Setenv("CI", "1")
	more, err := os.ReadFile(filepath.Join(env.WorkDir, "more.yaml"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	path := filepath.Join(env.WorkDir, "deploytool.yaml")
	head, err := baseConfig(listen, controlPlace())
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append([]byte(head), more...), 0o600); err != nil {
		return err
	}
	for i := range 9 { // v1 to v9 are good releases
		if err := os.MkdirAll(filepath.Join(env.WorkDir, "releases", fmt.Sprintf("v%d", i+1)), 0o700); err != nil {
			return err
		}
	}
	env.Values["clients"] = &scriptClients{}
	env.Defer(func() {
		if err := stopApps(path); err != nil {
			env.T().Log("the applications could not be stopped:", err)
		}
	})
	return nil
}

// stopApps ends the applications of a test, which outlive the tool by design.
func stopApps(config string) error {
	c, err := loadConfig(config)
	if err != nil {
		return err
	}
	endServe(c)
	slots, err := c.slots()
	if err != nil {
		return err
	}
	return (&guard{watched: watchedOf(slots)}).stopAll()
}

// endServe kills the serve process, if there is one: it would start the applications again.
func endServe(c *config) {
	client, err := c.client()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := client.Weights(context.Background()); err != nil {
		return
	}
	s, err := readSupervisor(c.superFile())
	if err != nil {
		return
	}
	if p, err := os.FindProcess(s.PID); err == nil {
		p.Kill()
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := client.Weights(context.Background()); err != nil {
			return
		}
	}
}

var nextPort atomic.Int32

// freeAddress finds a port below those that the system gives to outgoing connections, so that nobody takes it by chance.
func freeAddress() (string, error) {
	for range 2000 {
		port := 14000 + (int(nextPort.Add(1))+os.Getpid()*31)%5000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("no free port")
}

type scriptClients struct {
	*clients
	events <-chan string // what the event stream brought, once it has ended
}

// cmdAwait runs a command until its output matches: await PATTERN COMMAND...
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await PATTERN COMMAND [ARGS]")
	}
	re := regexp.MustCompile(args[0])
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err = ts.Exec(args[1], args[2:]...)
		if re.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%q never told %q (%v); last:\n%s", args[1:], args[0], err, ts.ReadFile("stdout"))
}

// cmdLoad begins a load on the front door.
func cmdLoad(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Value("clients").(*scriptClients).clients = newClients(ts.Getenv("LISTEN"))
}

// cmdWatch runs a command that does not end by itself until it has written a line that matches: watch PATTERN COMMAND...
func cmdWatch(ts *testscript.TestScript, _ bool, args []string) {
	re := regexp.MustCompile(args[0])
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir, cmd.Env = ts.Getenv("WORK"), append(os.Environ(), "DEPLOYTOOL_CONFIG="+ts.MkAbs("deploytool.yaml"))
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	timeout := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timeout.Stop()
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if ts.Logf("%s", lines.Text()); re.MatchString(lines.Text()) {
			return
		}
	}
	ts.Fatalf("%q never told %q", args[1:], args[0])
}

// cmdUpload begins an upload that lasts so long, or is half sent until it is let go: upload 3s, upload held, upload go
func cmdUpload(ts *testscript.TestScript, _ bool, args []string) {
	c := ts.Value("clients").(*scriptClients)
	switch args[0] {
	case "held":
		c.hold()
	case "go":
		close(c.held)
	default:
		d, err := time.ParseDuration(args[0])
		ts.Check(err)
		c.upload(d)
	}
}

// cmdEvents begins an event stream, or waits for its end, which must be one behind a whole event: events begin, events ended
func cmdEvents(ts *testscript.TestScript, _ bool, args []string) {
	c := ts.Value("clients").(*scriptClients)
	switch args[0] {
	case "begin":
		resp, err := http.Get("http://" + ts.Getenv("LISTEN") + "/events")
		ts.Check(err)
		ended := make(chan string, 1)
		c.events = ended
		go func() {
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			ended <- fmt.Sprintf("%q, %v", text, err)
		}()
	case "ended":
		select {
		case got := <-c.events:
			if !regexp.MustCompile(`^"data: release v\d\\n\\n", <nil>$`).MatchString(got) {
				ts.Fatalf("the event stream brought %s", got)
			}
		case <-time.After(20 * time.Second):
			ts.Fatalf("the event stream goes on")
		}
	}
}

// cmdNewest puts the ID of the newest swap into $SWAP.
func cmdNewest(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("deploytool", "history", "-n", "1", "-json"))
	var all []struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &all))
	ts.Setenv("SWAP", all[0].ID)
}

// cmdEndLoad ends the load. Nothing may be lost, and the answers seen must be exactly of the releases named, except that one with a question
// mark need not be among them: endload v1 v2?
func cmdEndLoad(ts *testscript.TestScript, neg bool, args []string) {
	asked, seen, lost := ts.Value("clients").(*scriptClients).end()
	ts.Logf("%d requests, %d lost", asked, len(lost))
	if neg != (len(lost) > 0) {
		ts.Fatalf("%d of %d requests were lost:\n%s", len(lost), asked, strings.Join(lost[:min(len(lost), 10)], "\n"))
	}
	if asked < 50 {
		ts.Fatalf("only %d requests: that proves nothing", asked)
	}
	var releases []string
	for text := range seen {
		if f := strings.Fields(text); len(f) == 4 && !slices.Contains(releases, f[1]) {
			releases = append(releases, f[1])
		}
	}
	slices.Sort(releases)
	for _, want := range args {
		name, maybe := strings.CutSuffix(want, "?")
		i := slices.Index(releases, name)
		if i < 0 && !maybe {
			ts.Fatalf("releases %q answered, want %q", releases, args)
		}
		if i >= 0 {
			releases = slices.Delete(releases, i, i+1)
		}
	}
	if len(releases) > 0 {
		ts.Fatalf("releases %q answered, too", releases)
	}
}

// cmdGet asks the front door: get / PATTERN
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := http.Get("http://" + ts.Getenv("LISTEN") + args[0])
	if neg {
		if err == nil && resp.StatusCode == http.StatusOK {
			ts.Fatalf("it answered")
		}
		return
	}
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if !regexp.MustCompile(args[1]).Match(text) {
		ts.Fatalf("%s, %q, want %q", resp.Status, text, args[1])
	}
}

// cmdPost sends an empty POST and does not mind the answer.
func cmdPost(ts *testscript.TestScript, _ bool, args []string) {
	if resp, err := http.Post("http://"+ts.Getenv("LISTEN")+args[0], "text/plain", nil); err == nil {
		resp.Body.Close()
	}
}

// cmdCode runs a command that must end with that code: code 4 deploytool deploy v2
func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%q: exit code %s, want %s", args[1:], got, args[0])
	}
}

// cmdDead makes sure that the slot's application does not run: dead blue
func cmdDead(ts *testscript.TestScript, neg bool, args []string) {
	c, err := loadConfig(ts.MkAbs("deploytool.yaml"))
	ts.Check(err)
	slots, err := c.slots()
	ts.Check(err)
	for _, s := range slots {
		if s.Name() != args[0] {
			continue
		}
		st, err := s.Inspect(context.Background())
		ts.Check(err)
		if st.Running != neg {
			ts.Fatalf("slot %s: %+v", s.Name(), st)
		}
	}
}
