package nginx

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
)

// findings judges the configuration.
func (s *Switcher) findings(tree []directive, r abswap.CheckRequest) []error {
	errs := s.findInclude(tree)
	used := 0
	walk(tree, func(d directive, within []directive) {
		switch {
		case d.name == "proxy_pass" && len(d.args) == 1:
			if s.leadsHere(d.args[0]) {
				used++
				errs = append(errs, s.judgeLocation(d, within)...)
			} else if slot := s.past(tree, d.args[0]); slot != "" {
				errs = append(errs, abswap.Warnf("%s: proxy_pass %s leads to slot %q whatever the switcher says", d.where(), d.args[0], slot))
			}
		case d.name == "worker_shutdown_timeout" && len(within) == 0 && len(d.args) > 0:
			errs = append(errs, s.judgeShutdown(d, r))
		case d.name == "keepalive_min_timeout" && len(d.args) > 0 && parseTime(d.args[0]) > 0:
			errs = append(errs, abswap.Warnf("%s: keepalive_min_timeout %s: for so long after a switch requests on kept-alive connections still go to the old slot",
				d.where(), d.args[0]))
		case d.name == "master_process" && len(d.args) == 1 && d.args[0] == "off":
			errs = append(errs, fmt.Errorf("%s: master_process off: without worker processes there is nothing that a reload replaces", d.where()))
		}
	})
	if used == 0 {
		errs = append(errs, fmt.Errorf("no proxy_pass uses $%s: a switch would move nothing; nginx.conf needs:\n%s", s.variable(), s.Snippet()))
	}
	return errs
}

// findInclude wants the file to be included once, and within http.
func (s *Switcher) findInclude(tree []directive) []error {
	if len(tree) == 0 {
		return []error{fmt.Errorf("the configuration is empty")}
	}
	real, err := realPath(s.cfg.Include)
	if err != nil {
		real = s.cfg.Include
	}
	main := tree[0].file
	times := 0
	var errs []error
	elsewhere := ""
	walk(tree, func(d directive, within []directive) {
		if d.name == "map" && len(d.args) == 2 && d.args[1] == "$"+s.variable()+"_mark" {
			elsewhere = d.file
		}
		if d.name != "include" || len(d.args) != 1 {
			return
		}
		pattern := includePattern(main, d.args[0])
		for _, file := range slices.Compact([]string{s.cfg.Include, real}) {
			if ok, err := path.Match(pattern, file); err != nil || !ok {
				continue
			}
			times++
			if len(within) != 1 || within[0].name != "http" {
				errs = append(errs, fmt.Errorf("%s: %q is to be included within http, and not deeper", d.where(), s.cfg.Include))
			}
			return
		}
	})
	switch {
	case times > 1:
		errs = append(errs, fmt.Errorf("%q is included %d times, not once", s.cfg.Include, times))
	case times == 0 && elsewhere != "":
		errs = append(errs, fmt.Errorf("site %q is steered by %q, and Config.Include is %q", s.cfg.Name, elsewhere, s.cfg.Include))
	case times == 0:
		errs = append(errs, fmt.Errorf("%q is not included; nginx.conf needs:\n%s", s.cfg.Include, s.Snippet()))
	}
	return errs
}

// leadsHere tells whether what is passed to is ours to choose.
func (s *Switcher) leadsHere(to string) bool {
	_, rest, ok := strings.Cut(to, "$"+s.variable())
	if !ok {
		return strings.Contains(to, "${"+s.variable()+"}")
	}
	return rest == "" || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", rune(rest[0]))
}

// past names the slot to which a location leads past the switcher; "": none.
func (s *Switcher) past(tree []directive, to string) string {
	_, host, ok := strings.Cut(to, "://")
	if !ok {
		return ""
	}
	host, _, _ = strings.Cut(host, "/")
	servers := []string{host}
	for _, top := range tree {
		for _, d := range top.block {
			if d.name != "upstream" || len(d.args) != 1 || d.args[0] != host {
				continue
			}
			for _, x := range d.block {
				if x.name == "server" && len(x.args) > 0 {
					servers = append(servers, x.args[0])
				}
			}
		}
	}
	for _, server := range servers {
		addr, err := parsePeer(strings.Replace(server, "localhost:", "127.0.0.1:", 1))
		if err != nil {
			continue
		}
		for slot, peer := range s.peers {
			if peer == addr {
				return slot
			}
		}
	}
	return ""
}

// effective returns the directives of that name that hold at d: those of the innermost block that has any.
func effective(name string, within []directive) []directive {
	for _, outer := range slices.Backward(within) {
		var all []directive
		for _, d := range outer.block {
			if d.name == name {
				all = append(all, d)
			}
		}
		if all != nil {
			return all
		}
	}
	return nil
}

// judgeLocation looks at a location that leads to the slots.
func (s *Switcher) judgeLocation(d directive, within []directive) []error {
	var errs []error
	for _, x := range effective("proxy_next_upstream", within) {
		if slices.Contains(x.args, "non_idempotent") {
			errs = append(errs, abswap.Warnf("%s: proxy_next_upstream non_idempotent: a POST that a slot has begun may be sent once more", x.where()))
		}
	}
	_, uri, _ := strings.Cut(strings.NewReplacer("${"+s.variable()+"}", "$"+s.variable()).Replace(d.args[0]), "$"+s.variable())
	if strings.HasPrefix(uri, "/") && !strings.Contains(uri, "$") {
		errs = append(errs, abswap.Warnf("%s: proxy_pass %s: after a variable %q is the whole address of every request; leave it away", d.where(), d.args[0], uri))
	}
	set := func(header string) (value string, ok bool) {
		for _, x := range effective("proxy_set_header", within) {
			if len(x.args) == 2 && strings.EqualFold(x.args[0], header) {
				return x.args[1], true
			}
		}
		return "", false
	}
	if _, ok := set("Host"); !ok {
		errs = append(errs, abswap.Warnf("%s: without proxy_set_header Host the application is asked for the host %q", d.where(), s.upstream("SLOT")))
	}
	if s.cfg.Keepalive > 0 {
		version := effective("proxy_http_version", within)
		if connection, ok := set("Connection"); len(version) == 0 || !slices.Equal(version[0].args, []string{"1.1"}) || !ok || connection == "close" {
			errs = append(errs, abswap.Warnf("%s: Config.Keepalive needs proxy_http_version 1.1 and proxy_set_header Connection \"\"", d.where()))
		}
	}
	return errs
}

// judgeShutdown refuses a limit that is shorter than what the drain would wait for.
func (s *Switcher) judgeShutdown(d directive, r abswap.CheckRequest) error {
	after := parseTime(d.args[0])
	switch {
	case after <= 0, r.Drain.Timeout > 0 && r.Drain.Timeout <= after:
		return nil // what is cut would not have been waited for either
	case s.cfg.AcceptCut:
		return abswap.Warnf("%s: worker_shutdown_timeout %s cuts what an old slot has begun", d.where(), d.args[0])
	}
	return fmt.Errorf("%s: worker_shutdown_timeout %s cuts what an old slot has begun, uploads as well; remove it, give the drain no longer a Timeout, "+
		"or bear it by Config.AcceptCut", d.where(), d.args[0])
}

var timeForm = regexp.MustCompile(`(\d{1,9})(ms|[smhdwMy]?)`)

// units of nginx's times.
func unit(name string) time.Duration {
	day := 24 * time.Hour
	switch name {
	case "ms":
		return time.Millisecond
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return day
	case "w":
		return 7 * day
	case "M":
		return 30 * day
	case "y":
		return 365 * day
	}
	return time.Second
}

// parseTime reads a time of nginx: "90", "1m30s", "500ms". What it does not understand is 0.
func parseTime(text string) time.Duration {
	var sum time.Duration
	rest := timeForm.ReplaceAllStringFunc(text, func(part string) string {
		m := timeForm.FindStringSubmatch(part)
		n, err := strconv.Atoi(m[1])
		if err == nil && n < 100_000_000 {
			sum += min(time.Duration(n), 290*365*24*time.Hour/unit(m[2])) * unit(m[2])
		}
		return ""
	})
	if strings.TrimSpace(rest) != "" || sum < 0 {
		return 0
	}
	return sum
}
