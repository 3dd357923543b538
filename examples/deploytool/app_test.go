package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/abswap/abswap/switcher/proxy/process"
)

// appMain is the web application that the tests deploy. The file "behaviour" in its release's folder says what is wrong with it:
//
//	never-healthy     it never gets fit
//	sick-after 300ms  it gets unfit so long after its first request
//	dies              it ends by itself right after its start
//	waits             it is not fit until there is a file "go" in its folder
func appMain() {
	os.Exit(runApp())
}

func runApp() int {
	behaviour, _ := os.ReadFile("behaviour")
	what, after, _ := strings.Cut(strings.TrimSpace(string(behaviour)), " ")
	release, slot := os.Getenv(process.EnvRelease), os.Getenv(process.EnvSlot)
	if what == "dies" {
		fmt.Fprintln(os.Stderr, "this release cannot run")
		return 3
	}
	log := openWorkLog()
	var first time.Time
	var mu sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		sick := false
		if d, err := time.ParseDuration(after); err == nil && what == "sick-after" {
			sick = !first.IsZero() && time.Since(first) > d
		}
		if what == "waits" {
			_, err := os.Stat("go")
			sick = err != nil
		}
		if sick || what == "never-healthy" {
			http.Error(w, "not fit", http.StatusServiceUnavailable)
		}
	})
	work := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if first.IsZero() {
				first = time.Now()
			}
			mu.Unlock()
			h(w, r)
		})
	}
	work("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		began := time.Now()
		log.done(release, began)
		fmt.Fprintf(w, "release %s slot %s\n", release, slot)
	})
	work("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		log.delivered(r.Header.Get(idHeader))
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		log.done(release, began)
		fmt.Fprintf(w, "%d %x\n", n, sum.Sum(nil))
	})
	work("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: release %s\n\n", release)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	work("POST /die", func(http.ResponseWriter, *http.Request) { os.Exit(4) })

	l, err := net.Listen("tcp", os.Getenv(process.EnvAddress))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go orphaned(stop)
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		return 1
	}
	return 0
}

// orphaned ends the application when the test's folder is gone, so that none is left behind by a test that was killed.
func orphaned(stop func()) {
	dir, err := os.Getwd()
	for err == nil {
		time.Sleep(time.Second)
		_, err = os.Stat(dir)
	}
	stop()
}
