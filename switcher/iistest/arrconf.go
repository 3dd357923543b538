package iistest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// ARRQuirks are the points in which nobody knows what the Application Request Routing of a real machine does. The zero value is what
// evidence supports best, and where there is none, the harder case.
type ARRQuirks struct {
	// FarmCommitForgets: a commit that changes webFarms makes ARR forget the states of members. Unverified.
	FarmCommitForgets bool
	// ResetKeepsCurrent: when the statistics of a member are reset, which a change of its health does (documented), the number of current
	// requests stays. Without it requests that run are in no count from then on. Unverified either way.
	ResetKeepsCurrent bool
	// FieldNumbers: states are numbered as scripts in the field do: 2 is unavailable, 3 gracefully so. Without it as in the schema: 2 is
	// both. Both were published.
	FieldNumbers bool
	// NoStateNames: states come as numbers only. Unverified.
	NoStateNames bool
	// FirstTestLater: a new worker process tests members after one interval for the first time, and has all healthy until then. Without it, at
	// once. Unverified either way.
	FirstTestLater bool
}

// farmsSection holds the server farms.
const farmsSection = "webFarms"

func farmsSchema() *element {
	const counts = "weight=100;p httpPort=80;p httpsPort=443;p"
	server := &element{name: "server", keys: []string{"address"}, attrs: attrs("address= enabled=true;b"),
		children: []*element{{name: "applicationRequestRouting", attrs: attrs(counts)}}}
	farm := &element{name: "webFarm", keys: []string{"name"}, item: server,
		attrs: attrs("name= enabled=true;b adminUserName= adminPassword= primaryServer="),
		children: []*element{{name: "applicationRequestRouting", children: []*element{
			{name: "affinity", attrs: attrs("useCookie=false;b cookieName=ARRAffinity useHostName=false;b timeout=00:20:00;t")},
			{name: "loadBalancing", attrs: attrs("algorithm=WeightedRoundRobin;WeightedRoundRobin|RequestHash|LeastRequests|LeastResponseTime|WeightedTotalTraffic " +
				"hashServerVariable= queryStringNames=")},
			{name: "healthCheck", attrs: attrs("url= interval=00:00:30;t timeout=00:00:30;t responseMatch= statusCodeMatch=200-399 minServers=0;n " +
				"liveTrafficFailureCodes=500- liveTrafficMaxFailures=10;n liveTrafficFailurePeriod=00:00:00;t")},
			{name: "protocol", attrs: attrs("timeout=00:00:30;t preserveHostHeader=false;b reverseRewriteHostInResponseHeaders=true;b minResponseBuffer=256;n " +
				"responseBufferLimit=4096;n bufferChunkedResponses=true;b")},
		}}}}
	return &element{name: farmsSection, item: farm}
}

// farmConf is a server farm as configured.
type farmConf struct {
	name         string
	enabled      bool
	servers      []memberConf
	hash         bool // RequestHash; every other algorithm is weighted round robin
	hashOf       string
	affinity     bool
	cookie       string
	timeout      time.Duration
	preserveHost bool
	health       healthConf
}

// memberConf is a server of a farm.
type memberConf struct {
	address string
	enabled bool
	weight  int64
	port    int
}

// healthConf is the health test of a farm, and the one by live traffic.
type healthConf struct {
	url, match        string
	from, to          int // status codes
	interval, timeout time.Duration
	maxFailures       int
	period            time.Duration // of live traffic; 0: off
}

// farmRule is a rewrite rule that feeds a farm.
type farmRule struct {
	farm  string
	all   bool // of the conditions; else any
	match []func(port int, r *http.Request) bool
}

// routing is what ARR does, as configured.
type routing struct {
	farms []farmConf
	rules []farmRule
	proxy bool // system.webServer/proxy is enabled
}

func (c *routing) farm(name string) (farmConf, bool) {
	i := slices.IndexFunc(c.farms, func(f farmConf) bool { return strings.EqualFold(f.name, name) })
	if i < 0 {
		return farmConf{}, false
	}
	return c.farms[i], true
}

// farmFor is the farm that the first rule which matches sends a request to; "": none.
func (c *routing) farmFor(port int, r *http.Request) string {
	for _, rule := range c.rules {
		hit := len(rule.match) == 0
		for _, m := range rule.match {
			if hit = m(port, r); hit != rule.all {
				break // one that fails of all, or one that fits of any
			}
		}
		if hit {
			return rule.farm
		}
	}
	return ""
}

// readRouting reads farms and the rules that feed them. What IIS would refuse is an error.
func readRouting(doc *bytexml.Doc) (routing, error) {
	var c routing
	if n := find(doc, farmsSection); n != nil {
		for _, f := range n.All("webFarm") {
			farm, err := readFarm(doc, f)
			if err != nil {
				return c, fmt.Errorf("web farm %q: %w", farm.name, err)
			}
			c.farms = append(c.farms, farm)
		}
	}
	preserve := false
	if p := find(doc, "system.webServer/proxy"); p != nil {
		on, _ := p.Attr("enabled")
		keep, _ := p.Attr("preserveHostHeader")
		c.proxy, preserve = strings.EqualFold(on, "true"), strings.EqualFold(keep, "true")
	}
	for i := range c.farms {
		c.farms[i].preserveHost = c.farms[i].preserveHost || preserve
	}
	if rules := find(doc, "system.webServer/rewrite/globalRules"); rules != nil {
		for _, r := range rules.All("rule") {
			if rule, ok := readRule(r, &c); ok {
				c.rules = append(c.rules, rule)
			}
		}
	}
	return c, nil
}

func readFarm(doc *bytexml.Doc, n *bytexml.Node) (farmConf, error) {
	schema := farmsSchema().item
	r := reader{doc: doc}
	text := func(path string) string { return r.text(schema, n, path) }
	const at = "applicationRequestRouting."
	f := farmConf{name: text("name"), enabled: text("enabled") == "true", hash: text(at+"loadBalancing.algorithm") == "RequestHash",
		hashOf: text(at + "loadBalancing.hashServerVariable"), affinity: text(at+"affinity.useCookie") == "true", cookie: text(at + "affinity.cookieName"),
		timeout: r.span(schema, n, at+"protocol.timeout"), preserveHost: text(at+"protocol.preserveHostHeader") == "true",
		health: healthConf{url: text(at + "healthCheck.url"), match: text(at + "healthCheck.responseMatch"),
			interval: r.span(schema, n, at+"healthCheck.interval"), timeout: r.span(schema, n, at+"healthCheck.timeout"),
			maxFailures: r.number(schema, n, at+"healthCheck.liveTrafficMaxFailures"), period: r.span(schema, n, at+"healthCheck.liveTrafficFailurePeriod")}}
	from, to, _ := strings.Cut(text(at+"healthCheck.statusCodeMatch"), "-")
	f.health.from, _ = strconv.Atoi(from)
	if f.health.to, _ = strconv.Atoi(to); to == "" {
		f.health.to = f.health.from
	}
	seen := map[string]bool{}
	for _, s := range n.All("server") {
		sr := reader{doc: doc}
		m := memberConf{address: sr.text(schema.item, s, "address"), enabled: sr.flag(schema.item, s, "enabled"),
			weight: int64(sr.number(schema.item, s, at+"weight")), port: sr.number(schema.item, s, at+"httpPort")}
		if sr.err != nil {
			return f, fmt.Errorf("server %q: %w", m.address, sr.err)
		}
		if m.address == "" || seen[strings.ToLower(m.address)] {
			return f, fmt.Errorf("server %q is there twice, or has no address", m.address)
		}
		seen[strings.ToLower(m.address)] = true
		f.servers = append(f.servers, m)
	}
	return f, r.err
}

// readRule reads a rewrite rule; ok is false if it leads to no farm.
func readRule(n *bytexml.Node, c *routing) (rule farmRule, ok bool) {
	attr := func(n *bytexml.Node, name string) string {
		if n == nil {
			return ""
		}
		v, _ := n.Attr(name)
		return v
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(attr(n.Child("action"), "url"), "http://"), "https://"), "/")
	f, known := c.farm(host)
	if !known || !strings.EqualFold(attr(n.Child("action"), "type"), "Rewrite") || strings.EqualFold(attr(n, "enabled"), "false") {
		return rule, false
	}
	rule = farmRule{farm: f.name, all: true}
	conditions := n.Child("conditions")
	if conditions == nil {
		return rule, true
	}
	rule.all = !strings.EqualFold(attr(conditions, "logicalGrouping"), "MatchAny")
	wildcard := strings.EqualFold(attr(n, "patternSyntax"), "Wildcard")
	for _, add := range conditions.All("add") {
		input, pattern, negate := strings.ToUpper(attr(add, "input")), attr(add, "pattern"), strings.EqualFold(attr(add, "negate"), "true")
		rule.match = append(rule.match, func(port int, r *http.Request) bool {
			return matches(wildcard, pattern, variables(input, port, r)) != negate
		})
	}
	return rule, true
}

// variables is the value of a server variable, as far as rules for farms use them.
func variables(input string, port int, r *http.Request) string {
	switch input {
	case "{SERVER_PORT}":
		return strconv.Itoa(port)
	case "{HTTP_HOST}":
		return r.Host
	case "{REQUEST_URI}", "{UNENCODED_URL}":
		return r.URL.RequestURI()
	case "{URL}":
		return r.URL.Path
	case "{REQUEST_METHOD}":
		return r.Method
	}
	return ""
}

func matches(wildcard bool, pattern, value string) bool {
	if wildcard {
		ok, err := path.Match(strings.ToLower(strings.ReplaceAll(pattern, "/", "\x00")), strings.ToLower(strings.ReplaceAll(value, "/", "\x00")))
		return err == nil && ok
	}
	re, err := regexp.Compile("(?i)" + pattern)
	return err == nil && re.MatchString(value)
}

// target is where a member is dialled.
func (m memberConf) target() string { return net.JoinHostPort(m.address, strconv.Itoa(m.port)) }

var errNoFarm = errors.New("there is no such web farm or server")
