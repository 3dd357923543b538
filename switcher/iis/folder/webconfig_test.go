package folder_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// published is what "dotnet publish" writes, with settings added.
const published = `<?xml version="1.0" encoding="utf-8"?>
<configuration>
  <location path="." inheritInChildApplications="false">
    <system.webServer>
      <handlers>
        <add name="aspNetCore" path="*" verb="*" modules="AspNetCoreModuleV2" resourceType="Unspecified" />
      </handlers>
      <aspNetCore processPath="dotnet" arguments=".\Shop.dll" stdoutLogEnabled="true" stdoutLogFile=".\logs\stdout" hostingModel="InProcess"
          shutdownTimeLimit="60" requestTimeout="01:00:00">
        <handlerSettings>
          <handlerSetting name="disallowRotationOnConfigChange" value="true" />
          <handlerSetting name="shutdownDelay" value="5000" />
          <handlerSetting name="enableShadowCopy" value="false" />
          <handlerSetting name="shadowCopyDirectory" value="../shadow" />
        </handlerSettings>
      </aspNetCore>
      <security><requestFiltering><requestLimits maxAllowedContentLength="1073741824" /></requestFiltering></security>
    </system.webServer>
  </location>
</configuration>
<!--ProjectGuid: 00000000-0000-0000-0000-000000000000-->
`

// classic is an ASP.NET application with bounds that differ by path.
const classic = `<configuration>
  <system.web>
    <compilation targetFramework="4.8" />
    <httpRuntime targetFramework="4.8" maxRequestLength="8192" executionTimeout="90" shutdownTimeout="120" />
    <hostingEnvironment shutdownTimeout="00:05:00" />
  </system.web>
  <location path="upload">
    <system.web><httpRuntime maxRequestLength="2097151" executionTimeout="3600" /></system.web>
    <system.webServer><security><requestFiltering><requestLimits maxAllowedContentLength="1000" /></requestFiltering></security></system.webServer>
  </location>
  <system.webServer>
    <applicationInitialization doAppInitAfterRestart="true" remapManagedRequestsTo="splash.htm">
      <add initializationPage="/warm" /><add initializationPage="/warm2" hostName="shop" />
    </applicationInitialization>
  </system.webServer>
</configuration>`

func TestParseWebConfigOfACoreApplication(t *testing.T) {
	c, err := folder.ParseWebConfig([]byte(published))
	require.NoError(t, err)
	delay, length := 5*time.Second, int64(1<<30)
	assert.Equal(t, &folder.WebConfig{
		AspNetCore: &folder.AspNetCore{ProcessPath: "dotnet", Arguments: `.\Shop.dll`, HostingModel: folder.InProcess, Module: "AspNetCoreModuleV2",
			StdoutLogEnabled: true, StdoutLogFile: `.\logs\stdout`, RequestTimeout: time.Hour, ShutdownTimeLimit: time.Minute, StartupTimeLimit: 2 * time.Minute,
			DisallowRotationOnConfigChange: true, ShutdownDelay: &delay, ShadowCopyDirectory: "../shadow",
			Settings: map[string]string{"disallowRotationOnConfigChange": "true", "shutdownDelay": "5000", "enableShadowCopy": "false", "shadowCopyDirectory": "../shadow"}},
		Limits: []folder.PathLimits{{MaxAllowedContentLength: &length}},
	}, c)
}

func TestParseWebConfigOfAClassicApplication(t *testing.T) {
	c, err := folder.ParseWebConfig([]byte(classic))
	require.NoError(t, err)
	require.Len(t, c.Limits, 2)
	assert.Equal(t, "", c.Limits[0].Path)
	assert.Equal(t, int64(8<<20), *c.Limits[0].MaxRequestLength)
	assert.Equal(t, 90*time.Second, *c.Limits[0].ExecutionTimeout)
	assert.Nil(t, c.Limits[0].MaxAllowedContentLength)
	assert.Equal(t, "upload", c.Limits[1].Path)
	assert.Equal(t, int64(1000), *c.Limits[1].MaxAllowedContentLength)
	assert.Equal(t, 5*time.Minute, *c.HostingShutdown)
	assert.Equal(t, &folder.Initialization{AfterRestart: true, Pages: []string{"/warm", "/warm2"}, RemapTo: "splash.htm"}, c.Initialization)
	assert.Nil(t, c.AspNetCore)
	assert.False(t, c.Debug)
}

func TestWhatALocationSaysDoesNotWinOverTheWhole(t *testing.T) {
	c, err := folder.ParseWebConfig([]byte(`<configuration>
		<location path="api"><system.webServer><aspNetCore processPath="api" /></system.webServer></location>
		<system.webServer><aspNetCore processPath="shop" /></system.webServer>
		<location path="b"><system.webServer><aspNetCore processPath="b"><handlerSettings><handlerSetting name="shutdownDelay" value="7" /></handlerSettings></aspNetCore></system.webServer></location>
		<location path="x"><system.web><httpRuntime maxRequestLength="1" shutdownTimeout="9" /></system.web></location>
		<system.web><httpRuntime maxRequestLength="2" shutdownTimeout="8" /></system.web>
		<location path="y"><system.web><httpRuntime maxRequestLength="3" shutdownTimeout="10" /><compilation debug="true" /></system.web></location>
		</configuration>`))
	require.NoError(t, err)
	assert.Equal(t, "shop", c.AspNetCore.ProcessPath)
	assert.Nil(t, c.AspNetCore.ShutdownDelay)
	assert.Equal(t, folder.OutOfProcess, c.AspNetCore.HostingModel)
	assert.Equal(t, 8*time.Second, *c.RuntimeShutdown)
	assert.False(t, c.Debug, "only what holds for the whole")
	var paths []string
	for _, l := range c.Limits {
		paths = append(paths, l.Path)
	}
	assert.Equal(t, []string{"", "x", "y"}, paths)
}

func TestWebConfigsThatAreNotWellFormed(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "blank": " \n", "text": "hello", "no end": "<configuration>", "crossed": "<configuration><a><b></a></b></configuration>",
		"ampersand": `<configuration><a b="x&y"/></configuration>`, "two": "<configuration/><configuration/>", "text behind": "<configuration/>x",
		"attribute twice": `<configuration><a b="1" b="2"/></configuration>`, "another element": "<web/>", "unquoted": "<configuration><a b=1/></configuration>",
		"document type": "<!DOCTYPE x><configuration/>", "encoding": `<?xml version="1.0" encoding="ebcdic"?><configuration/>`,
		"half UTF-16": "\xff\xfe<\x00c", "merge": "<configuration>\n<<<<<<< HEAD\n</configuration>", "not UTF-8": "<configuration><a b='\xff'/></configuration>",
	} {
		_, err := folder.ParseWebConfig([]byte(text))
		assert.ErrorContains(t, err, "web.config", name)
	}
}

func TestWebConfigTellsAllValuesThatAreNone(t *testing.T) {
	_, err := folder.ParseWebConfig([]byte(`<configuration><system.webServer>
		<aspNetCore hostingModel="inproc" stdoutLogEnabled="yes" requestTimeout="90" shutdownTimeLimit="-1"><handlerSettings>
			<handlerSetting name="disallowRotationOnConfigChange" value="on"/></handlerSettings></aspNetCore>
		<security><requestFiltering><requestLimits maxAllowedContentLength="1GB"/></requestFiltering></security></system.webServer>
		<system.web><httpRuntime executionTimeout="1:2"/></system.web></configuration>`))
	for _, text := range []string{`hostingModel="inproc"`, `stdoutLogEnabled="yes"`, `requestTimeout="90"`, `shutdownTimeLimit="-1"`,
		`disallowRotationOnConfigChange="on"`, `line 4: <requestLimits> has maxAllowedContentLength="1GB"`, `executionTimeout="1:2"`} {
		assert.ErrorContains(t, err, text)
	}
	assert.Len(t, multi.All(err), 7)
}

func TestWebConfigEncodings(t *testing.T) {
	text := strings.Replace(published, "utf-8", "utf-16", 1)
	wide := func(order binary.AppendByteOrder, mark bool) []byte {
		var b []byte
		if mark {
			b = order.AppendUint16(b, 0xfeff)
		}
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"UTF-8 with a mark": []byte("\xef\xbb\xbf" + published), "little": wide(binary.LittleEndian, true), "big": wide(binary.BigEndian, true),
		"little, no mark": wide(binary.LittleEndian, false), "big, no mark": wide(binary.BigEndian, false),
		"Windows":       []byte(strings.Replace(strings.Replace(published, "utf-8", "Windows-1252", 1), "ProjectGuid", "Gr\xf6\xdfe", 1)),
		"CR LF":         []byte(strings.ReplaceAll(published, "\n", "\r\n")),
		"a declaration": []byte(strings.Replace(published, "utf-8", "UTF-8", 1)),
	} {
		c, err := folder.ParseWebConfig(data)
		if assert.NoError(t, err, name) {
			assert.Equal(t, folder.InProcess, c.AspNetCore.HostingModel, name)
		}
	}
}

// findings tells what Check says of a release with this web.config: the errors and the warnings.
func findings(t *testing.T, conf string, l folder.Limits, files ...string) (errs, warnings []string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	if conf != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "Web.config"), []byte(conf), 0o644))
	}
	_, err := folder.Check(dir, l)
	for _, e := range multi.All(err) {
		if _, ok := e.(*abswap.Warning); ok {
			warnings = append(warnings, e.Error())
		} else {
			errs = append(errs, e.Error())
		}
	}
	return errs, warnings
}

func TestTraps(t *testing.T) {
	system := func(s string) string {
		return "<configuration><system.webServer>" + s + "</system.webServer></configuration>"
	}
	web := func(s string) string { return "<configuration><system.web>" + s + "</system.web></configuration>" }
	for _, c := range []struct {
		name, conf string
		limits     folder.Limits
		files      []string
		errs, warn []string // what each finding holds, in order
	}{
		{name: "nothing", files: []string{"index.html"}},
		{name: "a clean one", conf: system(""), files: []string{"sub/app_offline.htm"}},
		{name: "offline and malformed", conf: "<configuration>", files: []string{"App_Offline.htm"}, errs: []string{"503", "not well-formed"}},
		{name: "core without", files: []string{"Shop.runtimeconfig.json"}, warn: []string{"but no web.config"}},
		{name: "too large", conf: system("<!--" + strings.Repeat("x", 256<<10) + "-->"), warn: []string{"250 KiB"}},
		{name: "transformation", conf: `<configuration xmlns:xdt="http://schemas.microsoft.com/XML-Document-Transform"><a xdt:Transform="Remove"/></configuration>`,
			warn: []string{"(xdt)"}},
		{name: "elsewhere", conf: web(`<httpRuntime configSource="rt.config"/>`), warn: []string{`"system.web/httpRuntime" lies in a file`}},
		{name: "content length", conf: system(`<security><requestFiltering><requestLimits maxAllowedContentLength="29999999"/></requestFiltering></security>`),
			warn: []string{"404.13"}},
		{name: "content length of the default", conf: system(`<security><requestFiltering><requestLimits maxAllowedContentLength="30000000"/></requestFiltering></security>`)},
		{name: "content length wanted", limits: folder.Limits{UploadBytes: 1 << 31},
			conf: system(`<security><requestFiltering><requestLimits maxAllowedContentLength="30000000"/></requestFiltering></security>`), warn: []string{"2147483648 are wanted"}},
		{name: "classic", conf: classic, warn: []string{"maxRequestLength is 8388608", "executionTimeout is 1m30s", `maxAllowedContentLength below "upload" is 1000`, "remapManagedRequestsTo"}},
		{name: "shorter uploads", conf: web(`<httpRuntime executionTimeout="90"/>`), limits: folder.Limits{UploadTime: time.Minute}},
		{name: "debug", conf: web(`<compilation debug="true"/><httpRuntime executionTimeout="90"/>`)},
		{name: "out of process", conf: system(`<aspNetCore processPath="x"/>`), warn: []string{"requestTimeout of <aspNetCore> is 2m0s"}},
		{name: "in process", conf: system(`<aspNetCore processPath="x" hostingModel="inprocess"/>`)},
		{name: "old module", conf: system(`<handlers><add modules="AspNetCoreModule"/></handlers><aspNetCore processPath="x" hostingModel="inprocess"/>`),
			warn: []string{"AspNetCoreModuleV2 is needed"}},
		{name: "shadow copy", conf: system(`<aspNetCore hostingModel="inprocess"><handlerSettings><handlerSetting name="experimentalEnableShadowCopy" value="true"/></handlerSettings></aspNetCore>`),
			warn: []string{"enableShadowCopy"}},
		{name: "log within", conf: published, files: []string{"logs/keep"}, warn: []string{`name "logs" in Config.Volatile`}},
		{name: "log in no folder", conf: published, warn: []string{"that folder is not in the release"}},
		{name: "log beside the files", conf: system(`<aspNetCore hostingModel="inprocess" stdoutLogEnabled="true"/>`), warn: []string{"give it a folder of its own"}},
		{name: "log elsewhere", conf: system(`<aspNetCore hostingModel="inprocess" stdoutLogEnabled="true" stdoutLogFile="\\?\%home%\LogFiles\stdout"/>`),
			warn: []string{"a log that nobody trims"}},
		{name: "log outside", conf: system(`<aspNetCore hostingModel="inprocess" stdoutLogEnabled="true" stdoutLogFile="..\logs\stdout"/>`), warn: []string{"a log that nobody trims"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs, warn := findings(t, c.conf, c.limits, c.files...)
			require.Len(t, errs, len(c.errs), "%q", errs)
			require.Len(t, warn, len(c.warn), "%q", warn)
			for n, text := range c.errs {
				assert.Contains(t, errs[n], text)
			}
			for n, text := range c.warn {
				assert.Contains(t, warn[n], text)
			}
			if strings.HasPrefix(c.name, "log elsewhere") || strings.HasPrefix(c.name, "log outside") {
				assert.NotContains(t, warn[0], "Volatile")
			}
		})
	}
	_, err := folder.Check(filepath.Join(t.TempDir(), "absent"), folder.Limits{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}
