package appcmd_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

func parse(t *testing.T, text string) *appcmd.Document {
	t.Helper()
	d, err := appcmd.Parse(text)
	require.NoError(t, err, text)
	return d
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return appcmd.Decode(data, 0)
}

// What the documentation shows with lines left out is an error as it stands; without the dots it is a whole tree.
func TestTextTree(t *testing.T) {
	for _, x := range transcripts(t) {
		if !strings.Contains(x.body, "\n...\n") || strings.HasPrefix(x.body, "<") {
			continue
		}
		_, err := appcmd.Parse(x.body)
		require.ErrorIs(t, err, appcmd.ErrTruncated, x.name)
		d := parse(t, strings.ReplaceAll(x.body, "\n...\n", "\n"))
		require.Len(t, d.Entries, 1, x.name)
		switch x.name {
		case "list-site-text-star.docs":
			sites, err := d.Sites()
			require.NoError(t, err)
			assert.Equal(t, []appcmd.Site{{Name: "Default Web Site", ID: 2, State: appcmd.Started, ServerAutoStart: true,
				Bindings: []appcmd.Binding{{Protocol: "http", Information: "*:80:"}}}}, sites)
		case "list-apppool-text-star.docs":
			pools, err := d.Pools()
			require.NoError(t, err)
			require.Len(t, pools, 1)
			assert.Equal(t, "MyAppPool", pools[0].Name)
			assert.Equal(t, "v2.0", pools[0].RuntimeVersion)
			model := pools[0].Config.Find("processModel")
			require.NotNil(t, model)
			assert.Equal(t, "NetworkService", model.Get("identityType"))
			assert.Equal(t, "true", model.Get("pingingEnabled"))
		default:
			t.Errorf("%s is not looked at", x.name)
		}
	}
}

func TestTextTreeOfSites(t *testing.T) {
	d := parse(t, read(t, "list-sites-text-star.madeup.txt"))
	sites, err := d.Sites()
	require.NoError(t, err)
	require.Len(t, sites, 2)
	s := sites[0]
	assert.Equal(t, `My "Site" (warm-up)`, s.Name)
	assert.Equal(t, []appcmd.Binding{{Protocol: "http", Information: "*:80:"}, {Protocol: "https", Information: "*:443:www.example.test", SSLFlags: 1}}, s.Bindings)
	require.Len(t, s.Applications, 2)
	assert.Equal(t, "Pool#1", s.Applications[0].Pool)
	app, dir := s.Root()
	require.NotNil(t, app)
	require.NotNil(t, dir)
	assert.Equal(t, "C:\\inetpub\\two\nlines", dir.PhysicalPath)
	assert.Equal(t, appcmd.Hidden, dir.Config.Get("password"))
	assert.Equal(t, "/app", s.Applications[1].Path)
	assert.Equal(t, "00:02:00", s.Config.Find("limits").Get("connectionTimeout"), "an element after deeper ones")
	assert.False(t, sites[1].ServerAutoStart)
	assert.Equal(t, appcmd.Unknown, sites[1].State)
}

func TestSitesWithConfig(t *testing.T) {
	d := parse(t, read(t, "list-sites-config.madeup.xml"))
	sites, err := d.Sites()
	require.NoError(t, err)
	require.Len(t, sites, 3)
	a := sites[0]
	assert.Equal(t, "MySite", a.Name)
	assert.EqualValues(t, 1, a.ID)
	assert.Equal(t, appcmd.Started, a.State)
	assert.True(t, a.ServerAutoStart)
	assert.Equal(t, []appcmd.Binding{
		{Protocol: "http", Information: "*:80:"},
		{Protocol: "https", Information: "*:443:www.example.test", SSLFlags: 1, CertificateHash: "0123456789ABCDEF", CertificateStore: "My"},
		{Protocol: "https", Information: "[::1]:41080:", SSLFlags: 3},
		{Protocol: "net.tcp", Information: "808:*"},
	}, a.Bindings)
	app, dir := a.Root()
	require.NotNil(t, dir)
	assert.Equal(t, "AppPool#1", app.Pool)
	assert.Equal(t, `C:\inetpub\MySite.v1084\`, dir.PhysicalPath)
	assert.Nil(t, a.App("/nowhere"))
	assert.Equal(t, `%SystemDrive%\files`, a.App("/api").VDir("/Files").PhysicalPath)
	assert.True(t, a.App("/API").PreloadEnabled)

	b := sites[1]
	assert.Equal(t, `Ünï "quoted" 'single' (paren) & <tag> 漢字`, b.Name)
	assert.Equal(t, appcmd.Stopping, b.State)
	_, dir = b.Root()
	assert.Equal(t, `CORP\deploy`, dir.UserName)
	assert.Equal(t, appcmd.Hidden, dir.Config.Get("password"))
	assert.NotContains(t, mustJSON(t, d), "s3cret")

	c := sites[2]
	assert.Equal(t, "bare", c.Name, "the name stands in the element alone")
	assert.False(t, c.ServerAutoStart)
	assert.Equal(t, appcmd.Unknown, c.State)
	app, dir = c.Root()
	assert.Nil(t, app)
	assert.Nil(t, dir)
}

func TestBareConfig(t *testing.T) {
	d := parse(t, "<site name=\"Default Web Site\" id=\"1\">\n  <bindings>\n    <binding protocol=\"HTTP\" bindingInformation=\"*:80:\" />\n  </bindings>\n</site>\n<add name=\"P\" />\n")
	sites, err := d.Sites()
	require.NoError(t, err)
	require.Len(t, sites, 1)
	assert.Equal(t, "Default Web Site", sites[0].Name)
	assert.Equal(t, appcmd.Unknown, sites[0].State)
	assert.Equal(t, []appcmd.Binding{{Protocol: "HTTP", Information: "*:80:"}}, sites[0].Bindings)
	pools, err := d.Pools()
	require.NoError(t, err)
	require.Len(t, pools, 1)
	assert.Equal(t, "P", pools[0].Name)
	for _, bad := range []string{`<site id="1"/>`, `<site name="x"/>`, `<site name="x" id="y"/>`} {
		_, err := parse(t, bad).Sites()
		assert.ErrorIs(t, err, appcmd.ErrMalformed, bad)
	}
	_, err = parse(t, `<add/>`).Pools()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
}

func TestPoolsWithConfig(t *testing.T) {
	pools, err := parse(t, read(t, "list-apppools-config.madeup.xml")).Pools()
	require.NoError(t, err)
	require.Len(t, pools, 3)
	p := pools[0]
	p.Config = nil
	assert.Equal(t, appcmd.Pool{Name: "AppPool#1", State: appcmd.Started, PipelineMode: "Integrated", AutoStart: true, StartMode: "AlwaysRunning",
		QueueLength: 5000, ShutdownTimeLimit: time.Hour, StartupTimeLimit: 90 * time.Second, IdleTimeout: 0, MaxProcesses: 2,
		PeriodicRestart: 29 * time.Hour, DisallowOverlappingRotation: true, DisallowRotationOnConfigChange: true}, p)
	p = pools[1]
	require.NotNil(t, p.Config)
	p.Config = nil
	assert.Equal(t, appcmd.Pool{Name: "Defaults", State: appcmd.Stopped, PipelineMode: "Classic", RuntimeVersion: "v4.0", AutoStart: false,
		StartMode: "OnDemand", QueueLength: 1000, ShutdownTimeLimit: 90 * time.Second, StartupTimeLimit: 90 * time.Second,
		IdleTimeout: 20 * time.Minute, MaxProcesses: 1, PeriodicRestart: 29 * time.Hour}, p)
	assert.Nil(t, pools[2].Config)
	assert.Equal(t, "AlwaysRunning", pools[2].StartMode, "an attribute of the object itself")

	for _, bad := range []string{`shutdownTimeLimit="soon"`, `maxProcesses="-1"`, `startupTimeLimit="1:2"`} {
		_, err := parse(t, `<appcmd><APPPOOL APPPOOL.NAME="P"><add name="P"><processModel `+bad+` /></add></APPPOOL></appcmd>`).Pools()
		assert.ErrorIs(t, err, appcmd.ErrMalformed, bad)
	}
}

// Requests were reported with two spellings of their attributes, and others are not ruled out.
func TestRequestsInEverySpelling(t *testing.T) {
	want := []appcmd.Request{{ID: "f1", SiteID: 2, PID: 4711, Pool: "P", URL: "/up?a=1&b=(x, time:3 msec)", Verb: "POST", Client: "10.0.0.1",
		Stage: "ExecuteRequestHandler", Module: "AspNetCoreModuleV2", Time: 30465 * time.Millisecond}}
	url := `"/up?a=1&amp;b=(x, time:3 msec)"`
	for name, xml := range map[string]string{
		"one":   `<REQUEST REQUEST.NAME="f1" SITE.ID="2" WP.NAME="4711" APPPOOL.NAME="P" Url=` + url + ` Verb="POST" ClientIp="10.0.0.1" Stage="ExecuteRequestHandler" Module="AspNetCoreModuleV2" Time="30465" />`,
		"two":   `<REQUEST Time="30465" ModuleName="AspNetCoreModuleV2" Stage="ExecuteRequestHandler" ClientIPAddress="10.0.0.1" Verb="POST" Url=` + url + ` APPPOOL.NAME="P" WP.NAME="4711" SITE.ID="2" REQUEST.NAME="f1"></REQUEST>`,
		"three": `<request request_name="f1" site_id="2" wp_name="4711" apppool_name="P" URL=` + url + ` verb="POST" client="10.0.0.1" PIPELINE_STATE="ExecuteRequestHandler" CURRENTMODULE="AspNetCoreModuleV2" TIME.ELAPSED="30465 msec" />`,
		"four":  `<REQUEST REQUEST.ID="f1" siteId="2" processId="4711" appPool="P" Url="POST /up?a=1&amp;b=(x, time:3 msec)" ClientIp="10.0.0.1" pipelineState="ExecuteRequestHandler" currentModule="AspNetCoreModuleV2" timeElapsed="30465" />`,
	} {
		got, err := parse(t, "<appcmd>"+xml+"</appcmd>").Requests()
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	text := `REQUEST "f1" (url:POST /up?a=1&b=(x, time:3 msec), time:30465 msec, client:10.0.0.1, stage:ExecuteRequestHandler, module:AspNetCoreModuleV2)` + "\n"
	got, err := parse(t, text+strings.ReplaceAll(text, ", ", ",")).Requests()
	require.NoError(t, err)
	want[0].SiteID, want[0].PID, want[0].Pool = 0, 0, ""
	assert.Equal(t, want[0], got[0])
	assert.Equal(t, 30465*time.Millisecond, got[1].Time)

	got, err = parse(t, `<appcmd><REQUEST/><REQUEST REQUEST.NAME="x"/></appcmd>`).Requests()
	require.NoError(t, err)
	assert.Len(t, got, 2, "one of which nothing is told counts all the same")
	for _, bad := range []string{`WP.NAME="x"`, `SITE.ID="-1"`, `Time="soon"`, `Time="-5"`, `Time="99999999999999999"`} {
		_, err := parse(t, `<appcmd><REQUEST REQUEST.NAME="x" `+bad+`/></appcmd>`).Requests()
		assert.ErrorIs(t, err, appcmd.ErrMalformed, bad)
	}
}

func TestPlainTextNames(t *testing.T) {
	for text, want := range map[string]appcmd.Site{
		`SITE "MySite (warm-up)" (id:2,bindings:http/127.0.0.1:8081:,state:Started)`:   {Name: "MySite (warm-up)", ID: 2, State: appcmd.Started},
		`SITE "a" (id:9,state:Stopped" (id:3,bindings:http/*:80:,state:Started)`:       {Name: `a" (id:9,state:Stopped`, ID: 3, State: appcmd.Started},
		`SITE "a, state:Started" (id:3,bindings:,state:Stopped)`:                       {Name: "a, state:Started", ID: 3, State: appcmd.Stopped},
		`SITE "two` + "\n" + `lines" (id:3,bindings:http/*:80:,state:Unknown)`:         {Name: "two\nlines", ID: 3, State: appcmd.Unknown},
		`SITE "x" (id:3, bindings:http/*:80:, state:Starting)`:                         {Name: "x", ID: 3, State: appcmd.Starting},
		`SITE "x" (ID:3,BINDINGS:http/*:80:,STATE:STOPPING)`:                           {Name: "x", ID: 3, State: appcmd.Stopping},
		`SITE "x" (id:3,bindings:http/*:80:,state:Started,new:thing)`:                  {Name: "x", ID: 3, State: appcmd.Started},
		`SITE "Сайт №1" (id:3,bindings:http/*:80:,state:Started)`:                      {Name: "Сайт №1", ID: 3, State: appcmd.Started},
		`SITE "x" (id:3,bindings:http/*:80:,state:实例)`:                                 {Name: "x", ID: 3, State: appcmd.Unknown},
		`SITE "x" (id:3,bindings:net.pipe/*,net.tcp/808:*,http/*:80:,state:Started)`:   {Name: "x", ID: 3, State: appcmd.Started},
		`SITE "x" (id:3,bindings:https/[::1]:41080:,http/*:8002,state:Started)  ` + "": {Name: "x", ID: 3, State: appcmd.Started},
	} {
		sites, err := parse(t, text+"\n").Sites()
		require.NoError(t, err, text)
		require.Len(t, sites, 1, text)
		assert.Equal(t, want.Name, sites[0].Name, text)
		assert.Equal(t, want.ID, sites[0].ID, text)
		assert.Equal(t, want.State, sites[0].State, text)
	}
	dirs, err := parse(t, `VDIR "A/" (physicalPath:C:\Program Files (x86)\app)`+"\n"+`VDIR "A/b" (physicalPath:)`+"\n").VDirs()
	require.NoError(t, err)
	assert.Equal(t, []appcmd.Directory{{Name: "A/", PhysicalPath: `C:\Program Files (x86)\app`}, {Name: "A/b"}}, dirs)
	_, err = appcmd.Parse(`VDIR "A/" (physicalPath:C:\Program Files (x86)`)
	assert.ErrorIs(t, err, appcmd.ErrTruncated, "cut off where it looks whole")
	backups, err := parse(t, "BACKUP \"20060519T172530\"\nBACKUP \"before (deploy)\"\n").Backups()
	require.NoError(t, err)
	assert.Equal(t, []appcmd.Backup{{Name: "20060519T172530"}, {Name: "before (deploy)"}}, backups)
	backups, err = parse(t, `<appcmd><BACKUP BACKUP.NAME="b" /></appcmd>`).Backups()
	require.NoError(t, err)
	assert.Equal(t, []appcmd.Backup{{Name: "b"}}, backups)
}

func TestErrorsInEveryShape(t *testing.T) {
	for text, want := range map[string]appcmd.Message{
		"ERROR ( hresult:800710d8, message:A.\nB.\n )\n": {HResult: 0x800710d8, Text: "A.\nB."},
		"ERROR (message:A.)\n":                           {Text: "A."},
		"ERROR ( message: )\n":                           {},
		"ERROR ( hresult:0x80070020, message:x )\n":      {HResult: 0x80070020, Text: "x"},
		"ERROR ( hresult:5, message:x )\n":               {HResult: 5, Text: "x"},
		"ОШИБКА ( hresult:80070005, message:Отказано в доступе. )\n":            {HResult: 0x80070005, Text: "Отказано в доступе."},
		"ERROR ( message:File C:\\x (1)\nis (not) good\n. )\n":                  {Text: "File C:\\x (1)\nis (not) good\n."},
		"SITE object \"A\" changed\nERROR ( hresult:80070020, message:x\n )\n":  {HResult: 0x80070020, Text: "x"},
		"ERROR ( hresult:80070020, message:cut":                                 {HResult: 0x80070020, Text: "cut"},
		`<appcmd><ERROR message="m" hresult="80070020"/></appcmd>`:              {HResult: 0x80070020, Text: "m"},
		`<appcmd><error HRESULT="0x80070020" MESSAGE="m"></error></appcmd>`:     {HResult: 0x80070020, Text: "m"},
		`<appcmd><ERROR hresult="80070020"/></appcmd>`:                          {HResult: 0x80070020},
		`<appcmd><ERROR message="m" hresult="-2147024864"/>`:                    {HResult: 0x80070020, Text: "m"},
		"<appcmd><SITE SITE.NAME=\"a\"/></appcmd>\nERROR ( message:m )\n":       {Text: "m"},
		"<appcmd>\n</appcmd>\nERROR ( hresult:80070020, message:m\n )\n":        {HResult: 0x80070020, Text: "m"},
		"<appcmd><SITE SITE.NAME=\"a\nERROR ( hresult:800706be, message:m )\n":  {HResult: 0x800706be, Text: "m"},
		"Applied something\n\n  ERROR ( hresult:800706be, message:m )\nMore.\n": {HResult: 0x800706be, Text: "m"},
	} {
		m, found := appcmd.FindMessage(text)
		require.True(t, found, text)
		assert.Equal(t, want, m, text)
		assert.Error(t, appcmd.Judge(appcmd.SetSite("A"), text, 0), "with exit code 0 too: %s", text)
	}
	for _, text := range []string{"", "SITE object \"A\" changed\n", "<appcmd></appcmd>", `<appcmd><SITE SITE.NAME="&#10;ERROR ( message:x )"/></appcmd>`,
		"\"ERROR ( message:x )\" successfully started.\n"} {
		_, found := appcmd.FindMessage(text)
		assert.False(t, found, text)
	}
}

func TestClasses(t *testing.T) {
	for want, cases := range map[appcmd.Class][][2]uint32{
		appcmd.NotFound:       {{1168, 0}, {4312, 0}, {2, 0x80070002}},
		appcmd.Permission:     {{5, 0}, {5, 0x80070005}},
		appcmd.Conflict:       {{32, 0}, {32, 0x80070020}, {0, 0x80070020}},
		appcmd.Exists:         {{183, 0}, {183, 0x800700b7}},
		appcmd.Usage:          {{87, 0}, {13, 0x8007000d}, {87, 0x80070057}},
		appcmd.Unavailable:    {{50, 0}},
		appcmd.AlreadyDone:    {{1056, 0}, {1062, 0x80070426}},
		appcmd.Unchanged:      {{42, 0}},
		appcmd.NotReady:       {{4312, 0x800710d8}, {1061, 0x80070425}},
		appcmd.Transient:      {{1726, 0}, {1726, 0x800706be}, {0x80010006, 0x80010006}, {0x80010108, 0}},
		appcmd.NotImplemented: {{0x80004001, 0x80004001}, {0x80004001, 0}},
		appcmd.Locked:         {{33, 0x80070021}},
		appcmd.Other:          {{1, 0}, {0xC00CEE2B, 0xC00CEE2B}, {259, 0}},
	} {
		for _, c := range cases {
			assert.Equal(t, want, appcmd.Classify(c[0], c[1], "Sharing violation, access denied, not found: a text is not looked at"), "%d %x", c[0], c[1])
		}
		err := error(&appcmd.Error{Command: "appcmd x", Exit: 7, HResult: 0x80070007, Message: "two\r\nlines", Class: want})
		assert.ErrorIs(t, err, want)
		assert.Equal(t, want, appcmd.ClassOf(errors.Join(errors.New("x"), err)))
		assert.NotErrorIs(t, err, want+1)
		assert.Contains(t, err.Error(), want.String())
		assert.Contains(t, err.Error(), "exit code 7, hresult 80070007: two lines")
	}
	assert.Equal(t, appcmd.Permission, appcmd.Classify(1168, 0, "Ошибка\nфайл: \\\\?\\C:\\Redirection.config\n"))
	assert.Equal(t, appcmd.Other, appcmd.ClassOf(errors.New("x")))
	assert.Contains(t, appcmd.Class(99).String(), "99")
}

func TestWhatIsNotUnderstood(t *testing.T) {
	for _, text := range []string{"<appcmd>", "<appcmd><SITE", "<appcmd><SITE a=\"", "<appcmd><SITE></appcmd>", "<a></b>", "<appcmd>x</appcmd", "<", "</a>",
		"<a b=c/>", "<a>&nope;</a>", "<a b=\"pa&word\"/>", "SITE \"", "SITE \"x\" (id:1\n", "SITE\n  x:\"y\n", "SITE\n  [site]\n    nonsense\n", "SITE\n"} {
		_, err := appcmd.Parse(text)
		require.Error(t, err, text)
		assert.True(t, errors.Is(err, appcmd.ErrTruncated) || errors.Is(err, appcmd.ErrMalformed), "%q: %v", text, err)
		assert.NotContains(t, err.Error(), "word", "no value is shown")
	}
	_, err := appcmd.Parse(strings.Repeat("<a>", 10_000))
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = appcmd.Parse("SITE\n" + deepTree(1000))
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	for _, xml := range []string{`<SITE SITE.NAME="x"/>`, `<SITE SITE.ID="1"/>`, `<SITE SITE.NAME="x" SITE.ID="one"/>`, `<SITE SITE.NAME="x" SITE.ID="1" bindings="80"/>`,
		`<SITE SITE.NAME="x" SITE.ID="1"><site><bindings><binding/></bindings></site></SITE>`,
		`<SITE SITE.NAME="x" SITE.ID="1"><site><bindings><binding protocol="https" sslFlags="many"/></bindings></site></SITE>`} {
		_, err := parse(t, "<appcmd>"+xml+"</appcmd>").Sites()
		assert.ErrorIs(t, err, appcmd.ErrMalformed, xml)
	}
	d := parse(t, `<appcmd><APP/><VDIR/><APPPOOL/><WP/><BACKUP/></appcmd>`)
	_, err = d.Apps()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = d.VDirs()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = d.Pools()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = d.WorkerProcesses()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = d.Backups()
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	_, err = appcmd.ParseValues("C:\\a\nC:\\b")
	assert.ErrorIs(t, err, appcmd.ErrTruncated)
	_, err = appcmd.ParseValues("ERROR ( message:x )\n")
	assert.ErrorIs(t, err, appcmd.ErrMalformed)
	v, err := appcmd.ParseValues("\n")
	assert.NoError(t, err)
	assert.Empty(t, v)
}

func deepTree(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i+1) + "[a]\n")
	}
	return b.String()
}

func TestSections(t *testing.T) {
	for name, text := range map[string]string{
		"within its groups": "<system.webServer>\n\t<proxy enabled=\"true\" />\n</system.webServer>\n",
		"alone":             "<proxy enabled=\"true\" />\n",
		"as an object":      `<appcmd><CONFIG CONFIG.SECTION="system.webServer/proxy" path="MACHINE/WEBROOT/APPHOST"><system.webServer-proxy enabled="true"/></CONFIG></appcmd>`,
		"in an element":     `<appcmd><CONFIG><system.webServer><proxy enabled="true"/></system.webServer></CONFIG></appcmd>`,
		"in a whole file":   `<system.webServer><asp/><proxy enabled="true"/></system.webServer>`,
	} {
		e := parse(t, text).Section("system.webServer/proxy")
		require.NotNil(t, e, name)
		assert.True(t, e.Bool("enabled", false), name)
		assert.Nil(t, parse(t, text).Section("system.webServer/caching"), name)
	}
	d := parse(t, read(t, "applicationHost.madeup.config"))
	host := d.Sections[0]
	sites, err := appcmd.SitesOf(host.Find("system.applicationHost", "sites"))
	require.NoError(t, err)
	require.Len(t, sites, 2)
	assert.Equal(t, "MySite (warm-up)", sites[1].Name)
	assert.Equal(t, appcmd.Unknown, sites[0].State)
	_, dir := sites[1].Root()
	assert.Equal(t, `CORP\deploy`, dir.UserName)
	pools, err := appcmd.PoolsOf(host.Find("system.applicationHost", "applicationPools"))
	require.NoError(t, err)
	require.Len(t, pools, 2)
	assert.True(t, pools[1].DisallowRotationOnConfigChange)
	assert.Equal(t, "OnDemand", pools[1].StartMode)
	none, err := appcmd.SitesOf(nil)
	assert.NoError(t, err)
	assert.Empty(t, none)
	assert.Nil(t, host.Find("system.applicationHost", "nothing", "at", "all"))
	assert.Empty(t, host.Find("nothing").Get("x"))
}

func TestBindings(t *testing.T) {
	got, err := appcmd.ParseBindings("http/*:80:,https/*:443:a.test, HTTP/10.0.0.1:81:b.test,net.tcp/808:*,net.pipe/*,https/[::1]:443:,http/*:8002")
	require.NoError(t, err)
	var texts []string
	for _, b := range got {
		texts = append(texts, b.String())
	}
	assert.Equal(t, []string{"http/*:80:", "https/*:443:a.test", "HTTP/10.0.0.1:81:b.test", "net.tcp/808:*", "net.pipe/*", "https/[::1]:443:", "http/*:8002"}, texts)
	type split struct {
		address string
		port    uint16
		host    string
	}
	for i, want := range map[int]split{0: {"*", 80, ""}, 1: {"*", 443, "a.test"}, 2: {"10.0.0.1", 81, "b.test"}, 5: {"::1", 443, ""}, 6: {"*", 8002, ""}} {
		a, p, h, err := got[i].Split()
		require.NoError(t, err)
		assert.Equal(t, want, split{a, p, h})
	}
	for _, b := range []appcmd.Binding{got[3], got[4], {Protocol: "http", Information: "*"}, {Protocol: "http", Information: "*:0:"},
		{Protocol: "http", Information: "*:65536:"}, {Protocol: "http", Information: "[::1:80:"}, {Protocol: "http", Information: "[::1]80"}, {}} {
		_, _, _, err := b.Split()
		assert.Error(t, err, b)
	}
	assert.True(t, got[2].HTTP())
	assert.False(t, got[3].HTTP())
	assert.True(t, appcmd.Binding{Protocol: "HTTP", Information: "*:80"}.Same(appcmd.Binding{Protocol: "http", Information: "*:80:"}))
	assert.False(t, appcmd.Binding{Protocol: "http", Information: "*:80:a"}.Same(appcmd.Binding{Protocol: "http", Information: "*:80:"}))
}

func TestTimeSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"00:01:30": 90 * time.Second, "29:00:00": 29 * time.Hour, "1.05:00:00": 29 * time.Hour,
		" 00:00:00 ": 0, "00:00:00.5": time.Second / 2, "30.00:00:00": 720 * time.Hour} {
		got, err := appcmd.ParseTimeSpan(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "1", "00:00", "00:60:00", "00:00:60", "-00:00:01", "+1:00:00", "1.2.3:00:00", "a:b:c", "00:-1:00", "99999999:00:00", "00:00:01.+1", "::"} {
		_, err := appcmd.ParseTimeSpan(text)
		assert.ErrorIs(t, err, appcmd.ErrMalformed, text)
	}
	for _, d := range []time.Duration{0, time.Second, 90 * time.Second, 29 * time.Hour, 720 * time.Hour} {
		got, err := appcmd.ParseTimeSpan(appcmd.FormatTimeSpan(d))
		require.NoError(t, err)
		assert.Equal(t, d, got)
	}
}

func TestStates(t *testing.T) {
	for text, want := range map[string]appcmd.State{"Started": appcmd.Started, "started": appcmd.Started, "1": appcmd.Started, "Stopped": appcmd.Stopped,
		"3": appcmd.Stopped, "Starting": appcmd.Starting, "0": appcmd.Starting, "Stopping": appcmd.Stopping, "2": appcmd.Stopping,
		"Unknown": appcmd.Unknown, "4": appcmd.Unknown, "": appcmd.Unknown, "Выключен": appcmd.Unknown, "Stop": appcmd.Unknown} {
		assert.Equal(t, want, appcmd.ParseState(text), text)
	}
}

// What XML does not have comes in names and URLs all the same.
func TestIllegalCharacters(t *testing.T) {
	d := parse(t, "<appcmd><REQUEST REQUEST.NAME=\"a\x01&#x1;&#11;&#xD800;&#99999999999;&#65;&#10;b\" ns:Url=\"/\"/></appcmd>")
	name, ok := d.Entries[0].Get("request.name")
	require.True(t, ok)
	assert.Equal(t, "a\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\nb", name)
	assert.Equal(t, "ns:Url", d.Entries[0].Attrs[1].Name)
}

func TestHResults(t *testing.T) {
	for text, want := range map[string]uint32{"800710d8": 0x800710d8, "0x80070020": 0x80070020, "0X80070020": 0x80070020, "-2147024864": 0x80070020,
		"2147942432": 0x80070020, "": 0, "x": 0, "80004001": 0x80004001} {
		assert.Equal(t, want, appcmd.ParseHResult(text), text)
	}
}

func TestPlace(t *testing.T) {
	assert.Equal(t, `C:\Windows\System32\inetsrv\appcmd.exe`, appcmd.Place(`C:\Windows`, false))
	assert.Equal(t, `D:\WINNT\Sysnative\inetsrv\appcmd.exe`, appcmd.Place(`D:\WINNT`, true))
}
