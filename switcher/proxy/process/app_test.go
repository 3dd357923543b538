package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// The test binary is also the application in the slots, what that begins, and the tool that starts it and goes away.
const (
	envApp    = "PROCESS_TEST_APP"     // modes of the application, with commas between
	envTool   = "PROCESS_TEST_TOOL"    // a process.Config in JSON
	envRelay  = "PROCESS_TEST_RELEASE" // the tool installs it before it starts it; "": it is installed
	envNotify = "PROCESS_TEST_PIDS"    // a file to which each process that the application begins appends its pid
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envTool) != "":
		tool()
	case os.Getenv(envApp) != "":
		app(strings.Split(os.Getenv(envApp), ","))
	default:
		os.Exit(m.Run())
	}
}

// tool starts the slot and ends without a word to the application.
func tool() {
	var cfg process.Config
	if err := json.Unmarshal([]byte(os.Getenv(envTool)), &cfg); err != nil {
		fatal(err)
	}
	os.Unsetenv(envTool)
	s, err := process.New(cfg)
	if err != nil {
		fatal(err)
	}
	if path := os.Getenv(envRelay); path != "" {
		if err := s.Install(context.Background(), abswap.Release{ID: "v1", Path: path}); err != nil {
			fatal(err)
		}
	}
	fmt.Println("starting")
	if err := s.Start(context.Background()); err != nil {
		fatal(err)
	}
	fmt.Println("started")
}

func fatal(v any) {
	fmt.Fprintln(os.Stderr, "fatal:", v)
	os.Exit(1)
}

func app(modes []string) {
	is := func(mode string) bool { return slices.Contains(modes, mode) }
	fmt.Println("app begins with PORT", os.Getenv("PORT"))
	fmt.Fprintln(os.Stderr, "a word on stderr")

	if is("loud") {
		for i := range 20_000 {
			fmt.Println("line", i, strings.Repeat("x", 60))
		}
	}
	if is("crash") {
		if is("loud") {
			fmt.Println(strings.Repeat("y", 100_000))
		}
		fmt.Println("cannot open the \x1b[31mdatabase\x1b[0m")
		os.Exit(3)
	}
	if is("child") { // begun by an application with the mode children
		child(is("stubborn"))
	}
	if is("children") {
		beginChildren(is("stubborn"))
	}
	term := make(chan os.Signal, 1)
	if is("stubborn") {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(term, syscall.SIGTERM)
	}

	var healthy, stopped atomic.Bool
	healthy.Store(!is("slow"))
	posted := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case is("hang"):
			<-r.Context().Done()
		case is("redirect"):
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case is("created"):
			w.WriteHeader(http.StatusCreated)
		case !healthy.Load():
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case is("host") && r.Host != "shop.example":
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
		}
	})
	mux.HandleFunc("GET /elsewhere", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /heal", func(http.ResponseWriter, *http.Request) { healthy.Store(true) })
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		_ = json.NewEncoder(w).Encode(map[string]any{"env": os.Environ(), "args": os.Args[1:], "dir": dir, "pid": os.Getpid()})
	})
	mux.HandleFunc("GET /warm/{what}", func(_ http.ResponseWriter, r *http.Request) { fmt.Println("warm", r.PathValue("what")) })
	mux.HandleFunc("POST /exit", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(process.TokenHeader) != os.Getenv(process.EnvToken) {
			http.Error(w, "who are you", http.StatusForbidden)
			return
		}
		if is("mute") { // it takes its time to answer
			fmt.Println("told to stop")
			<-r.Context().Done()
			return
		}
		if stopped.CompareAndSwap(false, true) {
			close(posted)
		}
	})
	var l net.Listener
	if !is("deaf") {
		var err error
		if l, err = net.Listen("tcp", os.Getenv(process.EnvAddress)); err != nil {
			fatal(err)
		}
		go func() { fatal(http.Serve(l, mux)) }()
	}
	select {
	case <-term:
		fmt.Println("bye by signal")
	case <-posted:
		fmt.Println("bye by post")
	case <-time.After(5 * time.Minute): // nothing of a test outlives it for long
		fatal("nobody stopped it")
	}
	if is("leaves") { // ends with its children still there
		os.Exit(0)
	}
}

func beginChildren(stubborn bool) {
	for _, place := range childPlaces {
		modes := "child"
		if stubborn {
			modes += ",stubborn"
		}
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), envApp+"="+modes)
		c.SysProcAttr = place
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Start(); err != nil {
			fatal(err)
		}
	}
}

func child(stubborn bool) {
	if stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	f, err := os.OpenFile(os.Getenv(envNotify), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		fatal(err)
	}
	fmt.Fprintln(f, os.Getpid())
	if err := f.Close(); err != nil {
		fatal(err)
	}
	time.Sleep(5 * time.Minute)
	os.Exit(0)
}

func get(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
