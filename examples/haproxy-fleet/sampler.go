package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// seen is what a sampler has seen.
type seen struct {
	looks int // that count
	least int // members in service at both doors
	where string
	err   error // why it ended early
}

// sampler asks both HAProxys, a thousand times a second as far as the machine allows, which members are in service.
type sampler struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	seen   seen
}

// tooLong is between the answers of the two doors: what they say is then not of one moment, and does not count.
const tooLong = 20 * time.Millisecond

func startSampler(ctx context.Context, balancers []*balancer) *sampler {
	ctx, cancel := context.WithCancel(ctx)
	s := &sampler{cancel: cancel}
	s.wg.Go(func() { s.seen = sample(ctx, balancers) })
	return s
}

func (s *sampler) stop() seen {
	s.cancel()
	s.wg.Wait()
	return s.seen
}

func sample(ctx context.Context, balancers []*balancer) (all seen) {
	all.least = 1 << 30
	var doors []*prompt
	for _, b := range balancers {
		p, err := openPrompt(b.Path("admin.sock"))
		if err != nil {
			all.err = err
			return all
		}
		defer p.conn.Close()
		doors = append(doors, p)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all
		}
		began := time.Now()
		count := map[string]int{}
		var where []string
		for _, d := range doors {
			text, err := d.say("show servers state be_shop")
			if err != nil {
				all.err = err
				return all
			}
			for _, name := range inService(text) {
				count[name]++
			}
			where = append(where, text)
		}
		if time.Since(began) > tooLong {
			continue
		}
		serving := 0
		for _, n := range count {
			if n == len(doors) {
				serving++
			}
		}
		all.looks++
		if serving < all.least {
			all.least, all.where = serving, strings.Join(where, "\n")
		}
	}
}

// inService lists the servers that are on and up, of "show servers state".
func inService(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line) // be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ...
		if len(f) < 7 || f[1] != "be_shop" {
			continue
		}
		const off = 0x63 | 0x18 // any kind of maintenance or drain
		if admin, err := strconv.Atoi(f[6]); err == nil && admin&off == 0 && f[5] != "0" {
			all = append(all, f[3])
		}
	}
	return all
}

// prompt is a connection to HAProxy that takes one command after the other.
type prompt struct {
	conn net.Conn
	buf  []byte
}

func openPrompt(socket string) (*prompt, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	p := &prompt{conn: conn, buf: make([]byte, 0, 64<<10)}
	if _, err := p.say("prompt"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

// say sends a command and reads until the next prompt, which is "> " at the begin of a line.
func (p *prompt) say(command string) (string, error) {
	if err := p.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(p.conn, command+"\n"); err != nil {
		return "", err
	}
	p.buf = p.buf[:0]
	for {
		if len(p.buf) == cap(p.buf) {
			return "", fmt.Errorf("%s: the answer is too long", command)
		}
		n, err := p.conn.Read(p.buf[len(p.buf):cap(p.buf)])
		p.buf = p.buf[:len(p.buf)+n]
		if text, ok := bytes.CutSuffix(p.buf, []byte("\n> ")); ok {
			return string(text), nil
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w after %q", command, err, p.buf)
		}
	}
}
