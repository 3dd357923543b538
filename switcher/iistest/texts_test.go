package iistest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

// said is one command with what it prints (lines end in \n here) and its exit code.
type said struct {
	args string // parted by |
	exit uint32
	out  string
}

const invalidObject = "ERROR ( hresult:800710d8, message:Command execution failed.\nThe object identifier does not represent a valid object.\n )\n"

// TestTexts is one session whose lines are the shapes that documentation and field reports show.
func TestTexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.ApplicationHost = "" })
	for _, s := range []said{
		{"list|sites", 0, "SITE \"Default Web Site\" (id:1,bindings:http/*:80:,state:Started)\n"},
		{"list|site|Default Web Site|/text:state", 0, "Started\n"},
		{"list|site|default web site|/text:name", 0, "Default Web Site\n"},
		{"list|site|Missing", 1, ""},
		{"list|app|Missing/", 1, ""},
		{"list|apppool|Missing", 1, ""},
		{"list|site|/id:7", 1, ""},
		{"list|wp", 1, ""},
		{"list|requests", 1, ""},
		{"list|module", 1, ""},
		{"add|apppool|/name:MyAppPool", 0, "APPPOOL object \"MyAppPool\" added\n"},
		{"add|apppool|/name:MyAppPool", 183, "ERROR ( message:Failed to add duplicate collection element \"MyAppPool\". )\n"},
		{"add|apppool|/name:a/b", 87, "ERROR ( hresult:80070057, message:Command execution failed.\nThe parameter is incorrect.\n )\n"},
		{"set|apppool|MyAppPool|/managedRuntimeVersion:v2.0|/managedPipelineMode:classic", 0, "APPPOOL object \"MyAppPool\" changed\n"},
		{"list|apppools", 0, "APPPOOL \"DefaultAppPool\" (MgdVersion:v4.0,MgdMode:Integrated,state:Started)\nAPPPOOL \"MyAppPool\" (MgdVersion:v2.0,MgdMode:Classic,state:Started)\n"},
		{"set|apppool|MyAppPool|/managedRuntimeVersion:", 0, "APPPOOL object \"MyAppPool\" changed\n"},
		{"list|apppools|/state:started|/managedRuntimeVersion:", 0, "APPPOOL \"MyAppPool\" (MgdVersion:,MgdMode:Classic,state:Started)\n"},
		{"add|site|/name:MySite|/id:2|/bindings:http/*:81:|/physicalPath:C:\\inetpub\\mysite", 0, "SITE object \"MySite\" added\nAPP object \"MySite/\" added\nVDIR object \"MySite/\" added\n"},
		{"add|site|/name:Other|/bindings:http/*:82:,https/*:443:www.x.com", 0, "SITE object \"Other\" added\n"},
		{"add|site|/name:mysite|/bindings:http/*:83:", 183, "ERROR ( message:Failed to add duplicate collection element \"mysite\". )\n"},
		{"list|site|/site.name:Other", 0, "SITE \"Other\" (id:3,bindings:http/*:82:,https/*:443:www.x.com,state:Started)\n"},
		{"list|site|http://localhost:81", 0, "SITE \"MySite\" (id:2,bindings:http/*:81:,state:Started)\n"},
		{"list|site|http://localhost:99", 1, ""},
		{"add|app|/site.name:MySite|/path:/app1|/physicalPath:C:\\inetpub\\mysite\\app1", 0, "APP object \"MySite/app1\" added\nVDIR object \"MySite/app1/\" added\n"},
		{"add|app|/site.name:Nope|/path:/app1", 1168, "ERROR ( message:Cannot find SITE object with identifier \"Nope\". )\n"},
		{"add|vdir|/app.name:MySite/app1|/path:/vdir1|/physicalPath:C:\\inetpub\\mysite\\app1\\vdir1", 0, "VDIR object \"MySite/app1/vdir1\" added\n"},
		{"add|vdir|/app.name:MySite/app1|/path:/vdir1|/physicalPath:C:\\x|/logonMethod:ClearText|/allowSubDirConfig:true", 183, "ERROR ( message:Failed to add duplicate collection element \"/vdir1\". )\n"},
		{"list|apps", 0, "APP \"Default Web Site/\" (applicationPool:DefaultAppPool)\nAPP \"MySite/\" (applicationPool:DefaultAppPool)\nAPP \"MySite/app1\" (applicationPool:DefaultAppPool)\n"},
		{"list|apps|/site.name:Default Web Site", 0, "APP \"Default Web Site/\" (applicationPool:DefaultAppPool)\n"},
		{"list|app|http://localhost:81/app1/x", 0, "APP \"MySite/app1\" (applicationPool:DefaultAppPool)\n"},
		{"list|vdirs|/app.name:Default Web Site/", 0, "VDIR \"Default Web Site/\" (physicalPath:%SystemDrive%\\inetpub\\wwwroot)\n"},
		{"list|vdirs|/text:physicalPath", 0, "%SystemDrive%\\inetpub\\wwwroot\nC:\\inetpub\\mysite\nC:\\inetpub\\mysite\\app1\nC:\\inetpub\\mysite\\app1\\vdir1\n"},
		{"list|vdir|MySite/app1/vdir1", 0, "VDIR \"MySite/app1/vdir1\" (physicalPath:C:\\inetpub\\mysite\\app1\\vdir1)\n"},
		{"set|app|MySite/|/applicationPool:MyAppPool", 0, "APP object \"MySite/\" changed\n"},
		{"set|site|/site.name:MySite|/[path='/app1'].applicationPool:MyAppPool", 0, "SITE object \"MySite\" changed\n"},
		{"list|app|/apppool.name:MyAppPool|/text:APP.NAME", 0, "MySite/\nMySite/app1\n"},
		{"set|vdir|MySite/|/physicalPath:C:\\inetpub\\v2", 0, "VDIR object \"MySite/\" changed\n"},
		{"list|vdir|MySite/|/xml", 0, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<appcmd>\n    <VDIR physicalPath=\"C:\\inetpub\\v2\" path=\"/\" APP.NAME=\"MySite/\" VDIR.NAME=\"MySite/\" />\n</appcmd>\n"},
		{"list|apps|/xml|/site.name:Default Web Site", 0, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<appcmd>\n    <APP path=\"/\" APP.NAME=\"Default Web Site/\" APPPOOL.NAME=\"DefaultAppPool\" SITE.NAME=\"Default Web Site\" />\n</appcmd>\n"},
		{"list|site|MySite|/xml", 0, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<appcmd>\n    <SITE SITE.NAME=\"MySite\" SITE.ID=\"2\" bindings=\"http/*:81:\" state=\"Started\" />\n</appcmd>\n"},
		{"list|apppool|MyAppPool|/xml", 0, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<appcmd>\n    <APPPOOL APPPOOL.NAME=\"MyAppPool\" PipelineMode=\"Classic\" RuntimeVersion=\"\" state=\"Started\" />\n</appcmd>\n"},
		{"stop|site|MySite", 0, "\"MySite\" successfully stopped\n"},
		{"stop|site|MySite", 1062, "ERROR ( hresult:80070426, message:Command execution failed.\nThe service has not been started.\n )\n"},
		{"start|site|/site.name:MySite", 0, "\"MySite\" successfully started.\n"},
		{"start|site|MySite", 1056, "ERROR ( hresult:80070420, message:Command execution failed.\nAn instance of the service is already running.\n )\n"},
		{"recycle|apppool|/apppool.name:MyAppPool", 0, "\"MyAppPool\" successfully recycled\n"},
		{"stop|apppool|MyAppPool", 0, "\"MyAppPool\" successfully stopped\n"},
		{"recycle|apppool|MyAppPool", 1062, "ERROR ( hresult:80070426, message:Command execution failed.\nThe service has not been started.\n )\n"},
		{"start|apppool|MyAppPool|/wait", 0, "\"MyAppPool\" successfully started.\n"},
		{"start|site|Missing", 1168, "ERROR ( message:Cannot find SITE object with identifier \"Missing\". )\n"},
		{"stop|apppool|Missing", 1168, "ERROR ( message:Cannot find APPPOOL object with identifier \"Missing\". )\n"},
		{"stop|site", 87, "ERROR ( message:Must specify the SITE object with identifier. )\n"},
		{"restart|site", 87, "Command 'RESTART' is not supported on object 'SITE'. Run 'appcmd.exe SITE /?'\r\nto display supported commands.\r\n"},
		{"add|serverAutoStart:true", 87, "Object 'SERVERAUTOSTART:TRUE' is not supported.  Run 'appcmd.exe /?' to display supported objects.\r\n"},
		{"set|apppool|MyAppPool|/processModel.nonsense:1", 87, "ERROR ( message:Unknown attribute \"processModel.nonsense\".  Replace with -? for help. )\n"},
		{"set|config|-section:applicationPools|/*[@name=X].processModel.identityType:NetworkService", 13, "ERROR ( message:Malformed collection indexer; format is [@position,name='value',name2='value2',...].  The @position specifier is optional, and be '@start', '@end', or '@N' where N is a numeric index into the collection. )\n"},
		{"set|apppool|MyAppPool|/queueLength:many", 87, "ERROR ( hresult:80070057, message:Command execution failed.\nThe parameter is incorrect.\n )\n"},
		{"set|config|-section:system.webServer/proxy|-preserveHostHeader:true|/commit:apphost", 0, "Applied configuration changes to section \"system.webServer/proxy\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"list|config|-section:system.webServer/proxy", 0, "<system.webServer>\n  <proxy preserveHostHeader=\"true\" />\n</system.webServer>\n"},
		{"set|config|MySite|-section:access|-sslFlags:Ssl|-commit:APPHOST", 0, "Applied configuration changes to section \"system.webServer/security/access\" for \"MACHINE/WEBROOT/APPHOST/MySite\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"set|config|-section:staticContent|/-[fileExtension='.pem']", 4312, "ERROR ( message:Cannot find requested collection element. )\n"},
		{"set|config|-section:staticContent|/+[fileExtension='.pem',mimeType='text/plain']", 0, "Applied configuration changes to section \"system.webServer/staticContent\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"set|config|-section:staticContent|/+[fileExtension='.pem',mimeType='text/x']", 183, "ERROR ( message:New mimeMap object missing required attributes. Cannot add duplicate collection entry of type 'mimeMap' with unique key attribute 'fileExtension' set to '.pem'. )\n"},
		{"set|site|MySite|/+bindings.[protocol='http',bindingInformation='*:81:']", 183, "ERROR ( message:New binding object missing required attributes. Cannot add duplicate collection entry of type 'binding' with combined key attributes 'protocol, bindingInformation' respectively set to 'http, *:81:'. )\n"},
		{"set|site|MySite|/+bindings.[protocol='http']", 87, "ERROR ( message:New binding object missing required attributes. )\n"},
		{"set|config|-section:webFarms|/+[name='F']|/commit:apphost", 0, "Applied configuration changes to section \"webFarms\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"set|config|-section:webFarms|/+[name='F'].[address='A']|/[name='F'].[address='A'].applicationRequestRouting.weight:100", 0, "Applied configuration changes to section \"webFarms\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"search|config|/section:webFarms|/[name='F'].[address='A']", 0, "CONFIGSEARCH \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"search|config|/section:webFarms|/[name='F'].[address='B']", 1, ""},
		{"add|backup|MyBackup", 0, "BACKUP object \"MyBackup\" added\n"},
		{"list|backup", 0, "BACKUP \"MyBackup\"\n"},
		{"set|site|MySite|/name:Renamed", 0, "SITE object \"MySite\" changed\n"},
		{"set|site|Renamed|/name:Other", 183, "ERROR ( message:Failed to add duplicate collection element \"Other\". )\n"},
		{"restore|backup|MyBackup", 0, "Restored configuration from backup \"MyBackup\"\n"},
		{"restore|backup|Nope", 1168, "ERROR ( message:Cannot find BACKUP object with identifier \"Nope\". )\n"},
		{"delete|vdir|MySite/app1/vdir1", 0, "VDIR object \"MySite/app1/vdir1\" deleted\n"},
		{"delete|app|MySite/app1", 0, "APP object \"MySite/app1\" deleted\n"},
		{"delete|site|MySite", 0, "SITE object \"MySite\" deleted\n"},
		{"delete|site|MySite", 1168, "ERROR ( message:Cannot find SITE object with identifier \"MySite\". )\n"},
		{"delete|apppool|MyAppPool", 0, "APPPOOL object \"MyAppPool\" deleted\n"},
		{"delete|backup|MyBackup", 0, "BACKUP object \"MyBackup\" deleted\n"},
		{"set|config|-section:webFarms|/-[name='F'].[address='A']|/commit:apphost", 0, "Applied configuration changes to section \"webFarms\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
		{"clear|config|-section:webFarms", 0, "Applied configuration changes to section \"webFarms\" for \"MACHINE/WEBROOT/APPHOST\" at configuration commit path \"MACHINE/WEBROOT/APPHOST\"\n"},
	} {
		out, exit := w.run(strings.Split(s.args, "|")...)
		assert.Equal(t, strings.ReplaceAll(s.out, "\n", "\r\n"), out, s.args)
		assert.Equal(t, s.exit, exit, s.args)
	}
	out, exit := w.run("/?")
	assert.Equal(t, uint32(1), exit)
	assert.True(t, strings.HasSuffix(out, "\r\r\n"))
}

// TestIdenticalBinding: a site whose binding another started one has cannot be started, and stays as it was.
func TestIdenticalBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("add", "site", "/name:Twin", "/bindings:http/*:80:", "/physicalPath:"+w.folder+"/v2", "/[path='/'].applicationPool:B")
	assert.Equal(t, "Stopped", w.siteState("Twin"), "W3SVC does not start it")
	out, exit := w.run("start", "site", "/site.name:Twin")
	assert.Equal(t, uint32(183), exit)
	assert.Equal(t, "ERROR ( hresult:800700b7, message:Command execution failed.\r\nCannot create a file when that file already exists.\r\n )\r\n", out)
	assert.Equal(t, "Stopped", w.siteState("Twin"))
	assert.Equal(t, "Public", w.get(public).site)
	w.must("stop", "site", "Public")
	w.must("start", "site", "Twin")
	assert.Equal(t, "Twin", w.get(public).site)
	_, exit = w.run("start", "site", "Public")
	assert.Equal(t, uint32(183), exit)
}

func TestTrees(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "site", "Public", "/applicationDefaults.preloadEnabled:true")
	out := strings.ReplaceAll(w.must("list", "site", "Public", "/text:*"), "\r\n", "\n")
	for _, line := range []string{"SITE\n  SITE.NAME:\"Public\"\n  SITE.ID:\"1\"\n", "\n  [site]\n    name:\"Public\"\n", "\n      [binding]\n        protocol:\"http\"\n        bindingInformation:\"*:80:\"\n        sslFlags:\"0\"\n",
		"\n    [application]\n      path:\"/\"\n      applicationPool:\"A\"\n", "\n      preloadEnabled:\"true\"\n"} {
		assert.Contains(t, out, line)
	}
	out = strings.ReplaceAll(w.must("list", "site", "Public", "/config"), "\r\n", "\n")
	assert.True(t, strings.HasPrefix(out, "<site name=\"Public\" id=\"1\">\n"), out)
	assert.NotContains(t, out, "sslFlags", "only what is written")
	out = w.must("list", "site", "Public", "/config:*", "/xml")
	for _, part := range []string{`<SITE SITE.NAME="Public" SITE.ID="1" bindings="http/*:80:" state="Started">`, `<site name="Public" id="1" serverAutoStart="true">`,
		`<binding protocol="http" bindingInformation="*:80:" sslFlags="0" />`, `<application path="/" applicationPool="A" enabledProtocols="http"`, `preloadEnabled="true"`} {
		assert.Contains(t, out, part)
	}
	out = w.must("list", "apppool", "A", "/config:*", "/xml")
	for _, part := range []string{`<add name="A" queueLength="1000" autoStart="true"`, `shutdownTimeLimit="00:10:00"`, `disallowOverlappingRotation="false"`, `startMode="OnDemand"`} {
		assert.Contains(t, out, part)
	}
}

func TestNotElevated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.SetElevation(iistest.NotElevatedUnknown)
	out, exit := w.run("list", "apppool", "A")
	assert.Zero(t, exit)
	assert.Equal(t, "APPPOOL \"A\" (MgdVersion:,MgdMode:Integrated,state:Unknown)\r\n", out)
	_, exit = w.run("add", "apppool", "/name:C")
	assert.Equal(t, uint32(5), exit)
	_, exit = w.run("list", "wp")
	assert.Equal(t, uint32(50), exit)
	w.SetElevation(iistest.NotElevatedWAS)
	out, exit = w.run("list", "site")
	assert.Equal(t, uint32(50), exit)
	assert.Equal(t, "ERROR ( message:The WAS service is not available - try starting the service first. )\r\n", out)
	w.SetElevation(iistest.NotElevatedRedirect)
	out, exit = w.run("list", "site")
	assert.Equal(t, uint32(1168), exit)
	assert.Equal(t, "ERROR ( message:Configuration error\r\n\r\nFilename: redirection.config\r\nDescription: Cannot read configuration file due to insufficient permissions\r\n. )\r\n", out)
	w.SetElevation(iistest.Elevated)
	w.must("list", "site")
}

func TestRussian(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.Language = iistest.Russian; c.Encode = iistest.CP866 })
	require.NoError(t, w.StopService(t.Context()))
	out, exit := w.Appcmd(t.Context(), []string{"list", "wp"}, nil)
	assert.Equal(t, uint32(50), exit)
	assert.Equal(t, iistest.CP866("ERROR ( message:Служба WAS недоступна - попытайтесь сначала запустить службу. )\r\n"), out)
	assert.NotContains(t, string(out), "Служба", "the bytes are those of the code page")
	require.NoError(t, w.StartService())
	out, _ = w.Appcmd(t.Context(), []string{"start", "site", "Нет"}, nil)
	assert.Equal(t, iistest.CP866("ERROR ( message:Не удается найти объект SITE с идентификатором \"Нет\". )\r\n"), out)
	out, _ = w.Appcmd(t.Context(), []string{"list", "site", "Public"}, nil)
	assert.Equal(t, "SITE \"Public\" (id:1,bindings:http/*:80:,state:Started)\r\n", string(out), "tags, keys and states stay English")
	w.must("add", "site", "/name:Сайт", "/bindings:http/*:90:")
	out, _ = w.Appcmd(t.Context(), []string{"list", "site", "Сайт", "/xml"}, nil)
	assert.Contains(t, string(out), "SITE.NAME=\"Сайт\"", "XML is UTF-8 as it says")
	assert.Equal(t, []byte{0x80, 0xef, 0xf0, 0xf1, 0xaf, 0xe0, '?', 'a'}, iistest.CP866("АяЁёпр€a"))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	before := w.config()
	w.Inject(iistest.Fault{Kind: iistest.SharingViolation, Times: 2, Match: func(args []string) bool { return args[0] == "set" }})
	_, exit := w.run("add", "apppool", "/name:C")
	assert.Zero(t, exit, "no match")
	w.must("delete", "apppool", "C")
	assert.Equal(t, before, w.config(), "and all is as it was")
	for range 2 {
		out, exit := w.run("set", "vdir", "Public/", "/physicalPath:/x")
		assert.Equal(t, uint32(32), exit)
		assert.Equal(t, "VDIR object \"Public/\" changed\r\nERROR ( hresult:80070020, message:Failed to commit configuration changes.  \r\n"+
			"The process cannot access the file because it is being used by another process.\r\n )\r\n", out)
		assert.Equal(t, before, w.config())
	}
	w.must("set", "vdir", "Public/", "/physicalPath:/x")

	w.Inject(iistest.Fault{Kind: iistest.RPCFailed})
	out, exit := w.run("list", "wp")
	assert.Equal(t, uint32(1726), exit)
	assert.Equal(t, "ERROR ( hresult:800706be, message:The remote procedure call failed. )\r\n", out)
	_, exit = w.run("list", "wp")
	assert.Equal(t, uint32(1), exit)

	w.Inject(iistest.Fault{Kind: iistest.RPCTerminated})
	_, exit = w.run("stop", "site", "Public")
	assert.Equal(t, uint32(2147549190), exit)
	assert.Equal(t, "Started", w.siteState("Public"))

	w.Inject(iistest.Fault{Kind: iistest.ObjectUnknown, Times: -1})
	for range 3 {
		out, exit = w.run("stop", "site", "Public")
		assert.Equal(t, uint32(4312), exit)
		assert.Equal(t, strings.ReplaceAll(invalidObject, "\n", "\r\n"), out)
	}
	w.ClearFaults()
	w.must("stop", "site", "Public")

	w.Inject(iistest.Fault{Kind: iistest.HangAfter, For: 30 * time.Second})
	begin := time.Now()
	w.must("start", "site", "Public")
	assert.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond)
	commands := w.Commands()
	last := commands[len(commands)-1]
	assert.Equal(t, []string{"start", "site", "Public"}, last.Args)
	assert.GreaterOrEqual(t, last.Took, 300*time.Millisecond)
}

func TestPipes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	end := w.hold(public, "x")
	pipe := func(stdin []byte, args ...string) ([]byte, uint32) {
		return w.Appcmd(t.Context(), args, stdin)
	}
	requests, exit := pipe(nil, "list", "requests", "/elapsed:0", "/xml")
	require.Zero(t, exit)
	out, exit := pipe(requests, "list", "apps", "/in")
	assert.Zero(t, exit)
	assert.Equal(t, "APP \"Public/\" (applicationPool:A)\r\n", string(out))
	pools, exit := pipe(requests, "list", "apppools", "/in", "/xml")
	assert.Zero(t, exit)
	out, exit = pipe(pools, "recycle", "apppools", "/in")
	assert.Zero(t, exit)
	assert.Equal(t, "\"A\" successfully recycled\r\n", string(out))
	w.letGo("x")
	assert.NoError(t, w.ended(end).err)

	exported, exit := pipe(nil, "list", "site", "Private", "/config", "/xml")
	require.Zero(t, exit)
	out, exit = pipe(exported, "add", "site", "/in")
	assert.Equal(t, uint32(183), exit, string(out))
	w.must("delete", "site", "Private")
	out, exit = pipe(exported, "add", "site", "/in")
	assert.Zero(t, exit, string(out))
	require.NoError(t, w.Settle(t.Context()))
	assert.Equal(t, "v2", w.get(private).release)
	for _, bad := range []string{"", "nonsense", "<appcmd><SITE><site name='a' id='9' fromTheFuture='1'/></SITE></appcmd>", "<appcmd />"} {
		out, exit = pipe([]byte(bad), "add", "site", "/in")
		assert.Equal(t, uint32(13), exit)
		assert.Equal(t, "ERROR ( hresult:8007000d, message:Command execution failed.\r\nThe data is invalid.\r\n )\r\n", string(out))
	}
}

// TestSiteConfigFile: without /commit:apphost a site's section goes to its own web.config.
func TestSiteConfigFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	before := w.config()
	out := w.must("set", "config", "Public", "-section:system.webServer/httpProtocol", "/allowKeepAlive:false")
	assert.Contains(t, out, `for "MACHINE/WEBROOT/APPHOST/Public" at configuration commit path "MACHINE/WEBROOT/APPHOST/Public"`)
	assert.Equal(t, before, w.config())
	data, err := os.ReadFile(filepath.Join(w.folder, "v1", "web.config"))
	require.NoError(t, err)
	assert.True(t, bytes.Contains(data, []byte(`<httpProtocol allowKeepAlive="false" />`)), string(data))
	out, exit := w.run("set", "config", "Nope", "-section:system.webServer/httpProtocol", "/allowKeepAlive:false")
	assert.Equal(t, uint32(1168), exit, out)
}

// TestBrokenFile: a file that cannot be read is an error for commands, and the runtime goes on with what it had.
func TestBrokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	good := w.config()
	require.NoError(t, os.WriteFile(w.ConfigPath(), []byte("<configuration>"), 0o644))
	out, exit := w.run("list", "site")
	assert.NotZero(t, exit)
	assert.Contains(t, out, "ERROR ( message:Configuration error\r\n\r\nFilename: \\\\?\\"+w.ConfigPath())
	assert.Equal(t, "v1", w.get(public).release)
	require.NoError(t, os.WriteFile(w.ConfigPath(), []byte(strings.Replace(good, "/v1\"", "/v3\"", 1)), 0o644))
	require.NoError(t, w.Settle(t.Context()))
	assert.Equal(t, "v3", w.get(public).release, "a file written by hand is followed too")
	out, exit = w.run("list", "site", "/apphostconfig:/nowhere")
	assert.NotZero(t, exit)
	assert.Contains(t, out, "Cannot read configuration file")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := iistest.New(iistest.Config{Scale: -1, Ports: map[int]int{0: 1}, Language: 9, Elevation: 9, Quirks: iistest.Quirks{XMLErrors: 3, RequestSpelling: 9}})
	for _, part := range []string{"Scale -1", "Ports 0->1", "Language 9", "Elevation 9", "Quirks.XMLErrors", "RequestSpelling 9"} {
		assert.ErrorContains(t, err, part)
	}
	_, err = iistest.New(iistest.Config{ApplicationHost: "<configuration><system.applicationHost><sites><site name='a' id='1'/><site name='b' id='1'/></sites></system.applicationHost></configuration>"})
	assert.ErrorContains(t, err, "twice")
}
