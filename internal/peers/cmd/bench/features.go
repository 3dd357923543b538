//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// allOn follows the name of our proxy where all that it can do for a request is on: sessions, and limits that are never reached.
const allOn = "-all-on"

// features measures requests of a session, and, where the proxy keeps none, requests that are as long.
func (b *bench) features(emit func(string, any)) error {
	cookie, err := b.session()
	if err != nil {
		return err
	}
	for r := range strings.SplitSeq(*rates, ",") {
		o, err := b.loadgen("rate", "-addr", b.addr, "-pid", b.pid(), "-rate", r, "-warm", "500ms", "-d", fmt.Sprintf("%.1fs", *secs+.5), "-cookie", cookie)
		if err != nil {
			return err
		}
		emit("rate"+r, o)
	}
	o, err := b.wrk("http://"+b.addr+"/", *secs, 64, "-H", "Cookie: "+cookie)
	if err != nil {
		return err
	}
	emit("max", o)
	return nil
}

// session begins one and returns its cookie, or one of that length.
func (b *bench) session() (string, error) {
	resp, err := http.Get("http://" + b.addr + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	for _, c := range resp.Cookies() {
		return c.Name + "=" + c.Value, nil
	}
	if strings.HasSuffix(b.p.name, allOn) {
		return "", fmt.Errorf("%s has begun no session: %v", b.p.name, resp.Header)
	}
	return "abswap-session=" + strings.Repeat("A", 92), nil
}
