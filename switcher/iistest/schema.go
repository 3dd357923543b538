package iistest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is the type of an attribute's value.
type kind uint8

const (
	text kind = iota
	boolean
	number
	span // a time: h:mm:ss or d.hh:mm:ss
	positive
)

// attribute is what the schema says of one attribute. enum lists the legal values of a text; nil: any.
type attribute struct {
	name, zero string
	kind       kind
	enum       []string
}

// element is what the schema says of one element: its attributes, its fixed children, and the members of its collection.
type element struct {
	name     string
	attrs    []attribute
	children []*element
	item     *element // of the collection; nil: none
	keys     []string // attributes that make an item unique
	// defaults names the element beside the items of the collection that holds their defaults, as siteDefaults does.
	defaults string
	// sparse: shown where it is written only.
	sparse bool
}

func (e *element) attr(name string) *attribute {
	for i := range e.attrs {
		if strings.EqualFold(e.attrs[i].name, name) {
			return &e.attrs[i]
		}
	}
	return nil
}

func (e *element) child(name string) *element {
	for _, c := range e.children {
		if strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

// attrs reads a compact list: "name=default:kind", the kind being b, n, t or a|b|c.
func attrs(list string) []attribute {
	var all []attribute
	for _, f := range strings.Fields(list) {
		name, rest, _ := strings.Cut(f, "=")
		zero, k, _ := strings.Cut(rest, ";")
		a := attribute{name: name, zero: zero}
		switch k {
		case "":
		case "b":
			a.kind = boolean
		case "n":
			a.kind = number
		case "t":
			a.kind = span
		case "p":
			a.kind = positive
		default:
			a.enum = strings.Split(k, "|")
		}
		all = append(all, a)
	}
	return all
}

// sections of the schema that are known attribute by attribute. Any other section is edited as it stands, without a check; that is how
// sections of modules (rewrite, proxy, webFarms) work.
const (
	sitesSection = "system.applicationHost/sites"
	poolsSection = "system.applicationHost/applicationPools"
)

// schemaOf returns the schema of a section, nil if it is not known attribute by attribute.
func schemaOf(section string) *element {
	switch section {
	case sitesSection:
		return sitesSchema()
	case poolsSection:
		return poolsSchema()
	case farmsSection:
		return farmsSchema()
	}
	return nil
}

func sitesSchema() *element {
	vdir := &element{name: "virtualDirectory", keys: []string{"path"}, defaults: "virtualDirectoryDefaults",
		attrs: attrs("path= physicalPath= userName= password= logonMethod=ClearText;Interactive|Batch|Network|ClearText allowSubDirConfig=true;b")}
	app := &element{name: "application", keys: []string{"path"}, item: vdir, defaults: "applicationDefaults",
		attrs: attrs("path= applicationPool= enabledProtocols=http serviceAutoStartEnabled=false;b serviceAutoStartProvider= preloadEnabled=false;b")}
	site := &element{name: "site", keys: []string{"name"}, item: app, defaults: "siteDefaults",
		attrs: attrs("name= id=;n serverAutoStart=true;b"),
		children: []*element{
			{name: "bindings", item: &element{name: "binding", keys: []string{"protocol", "bindingInformation"},
				attrs: attrs("protocol= bindingInformation= sslFlags=0;n")}},
			{name: "limits", attrs: attrs("maxBandwidth=4294967295;n maxConnections=4294967295;n connectionTimeout=00:02:00;t maxUrlSegments=32;n")},
			{name: "logFile", attrs: attrs("logFormat=W3C directory=%SystemDrive%\\inetpub\\logs\\LogFiles period=Daily enabled=true;b")},
		}}
	// Defaults stand beside the sites, at every level of nesting.
	bare := func(name string, like *element) *element {
		return &element{name: name, attrs: like.attrs, children: like.children, sparse: true}
	}
	app.children = []*element{bare("virtualDirectoryDefaults", vdir)}
	site.children = append(site.children, bare("applicationDefaults", app), app.children[0])
	return &element{name: "sites", item: site, children: []*element{
		bare("siteDefaults", site), bare("applicationDefaults", app), bare("virtualDirectoryDefaults", vdir),
	}}
}

func poolsSchema() *element {
	pool := &element{name: "add", keys: []string{"name"}, defaults: "applicationPoolDefaults",
		attrs: attrs("name= queueLength=1000;n autoStart=true;b enable32BitAppOnWin64=false;b managedRuntimeVersion= " +
			"managedRuntimeLoader=webengine4.dll enableConfigurationOverride=true;b managedPipelineMode=Integrated;Integrated|Classic " +
			"CLRConfigFile= passAnonymousToken=true;b startMode=OnDemand;OnDemand|AlwaysRunning"),
		children: []*element{
			{name: "processModel", attrs: attrs("identityType=ApplicationPoolIdentity;" +
				"LocalSystem|LocalService|NetworkService|SpecificUser|ApplicationPoolIdentity " +
				"userName= password= loadUserProfile=true;b setProfileEnvironment=true;b logonType=LogonBatch manualGroupMembership=false;b " +
				"idleTimeout=00:20:00;t idleTimeoutAction=Terminate;Terminate|Suspend maxProcesses=1;n shutdownTimeLimit=00:01:30;t " +
				"startupTimeLimit=00:01:30;t pingingEnabled=true;b pingInterval=00:00:30;t pingResponseTime=00:01:30;t logEventOnProcessModel=IdleTimeout")},
			{name: "recycling", attrs: attrs("disallowOverlappingRotation=false;b disallowRotationOnConfigChange=false;b logEventOnRecycle=Time,Memory,PrivateMemory"),
				children: []*element{{name: "periodicRestart", attrs: attrs("memory=0;n privateMemory=0;n requests=0;n time=1.05:00:00;t"),
					children: []*element{{name: "schedule", item: &element{name: "add", keys: []string{"value"}, attrs: attrs("value=;t")}}}}}},
			{name: "failure", attrs: attrs("loadBalancerCapabilities=HttpLevel;HttpLevel|TcpLevel orphanWorkerProcess=false;b orphanActionExe= orphanActionParams= " +
				"rapidFailProtection=true;b rapidFailProtectionInterval=00:05:00;t rapidFailProtectionMaxCrashes=5;n autoShutdownExe= autoShutdownParams=")},
			{name: "cpu", attrs: attrs("limit=0;n action=NoAction resetInterval=00:05:00;t smpAffinitized=false;b smpProcessorAffinityMask=4294967295;n")},
			{name: "environmentVariables", item: &element{name: "add", keys: []string{"name"}, attrs: attrs("name= value=")}},
		}}
	return &element{name: "applicationPools", item: pool,
		children: []*element{{name: "applicationPoolDefaults", sparse: true, attrs: pool.attrs, children: pool.children}}}
}

// itemName is the element name of a collection's members where the schema is not known.
func itemName(collection string) string {
	switch collection {
	case "staticContent":
		return "mimeMap"
	case "globalRules", "rules", "outboundRules":
		return "rule"
	case "webFarms":
		return "webFarm"
	case "webFarm":
		return "server"
	}
	return "add"
}

// check tells whether value is legal for a, and gives it as it is written: enums in their own spelling, booleans in lower case.
func (a *attribute) check(value string) (string, bool) {
	switch a.kind {
	case boolean:
		low := strings.ToLower(value)
		return low, low == "true" || low == "false"
	case number:
		_, err := strconv.ParseUint(value, 10, 32)
		return value, err == nil
	case positive:
		n, err := strconv.ParseUint(value, 10, 32)
		return value, err == nil && n > 0
	case span:
		_, ok := parseSpan(value)
		return value, ok
	}
	if a.enum == nil {
		return value, true
	}
	i := slices.IndexFunc(a.enum, func(e string) bool { return strings.EqualFold(e, value) })
	if i < 0 {
		return value, false
	}
	return a.enum[i], true
}

// parseSpan reads a time as configuration writes it: [d.]hh:mm:ss.
func parseSpan(s string) (time.Duration, bool) {
	var days uint64
	if d, rest, ok := strings.Cut(s, "."); ok {
		n, err := strconv.ParseUint(d, 10, 16)
		if err != nil {
			return 0, false
		}
		days, s = n, rest
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	var n [3]uint64
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil || i > 0 && v > 59 {
			return 0, false
		}
		n[i] = v
	}
	return time.Duration(days*86400+n[0]*3600+n[1]*60+n[2]) * time.Second, true
}
