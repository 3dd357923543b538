package iisdemo

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/abswap/abswap/switcher/iis"
)

// MarkFile is the file of a release that holds its ID. A web server that knows nothing of releases serves it as it is, so that everybody can
// ask which release answers.
const MarkFile = "release.txt"

// MarkPath is how that file is asked for. The query keeps HTTP.sys from answering out of its own cache of static files, which would not notice a
// switch: Microsoft documents that requests with a query are not cached.
const MarkPath = "/" + MarkFile + "?now"

// SickFile makes the application answer 500 to everything but the mark, as one whose database is out of reach: from the moment on at which it
// is there.
const SickFile = "sick"

// WriteRelease makes a folder hold a release of the demo's application.
func WriteRelease(dir, id string, mode iis.Mode, noRotation bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{MarkFile: id + "\n", "web.config": webConfig(mode, noRotation)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WriteSick makes a release that starts and does not work.
func WriteSick(dir, id string) error {
	if err := WriteRelease(dir, id, iis.Classic, false); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, SickFile), nil, 0o644)
}

// webConfig is the file by which IIS knows how the application is run.
func webConfig(mode iis.Mode, noRotation bool) string {
	if mode == iis.Classic {
		return "<configuration>\n  <system.web />\n</configuration>\n"
	}
	model, settings := "outofprocess", ""
	if mode == iis.CoreInProcess {
		model = "inprocess"
	}
	if noRotation {
		settings = "\n      <handlerSettings>\n        <handlerSetting name=\"disallowRotationOnConfigChange\" value=\"true\" />\n      </handlerSettings>\n    "
	}
	return fmt.Sprintf(`<configuration>
  <system.webServer>
    <handlers>
      <add name="aspNetCore" path="*" verb="*" modules="AspNetCoreModuleV2" resourceType="Unspecified" />
    </handlers>
    <aspNetCore processPath=".\Shop.exe" hostingModel="%s" shutdownTimeLimit="30">%s</aspNetCore>
  </system.webServer>
</configuration>
`, model, settings)
}

// OpenRelease is the application in a folder, as a worker process of the emulated machine runs it. It knows its release from its start on.
//
//	GET  /             greets
//	GET  /release.txt  tells the release
//	POST /upload       takes a body of any length, and answers when it has all of it: release, length and checksum
func OpenRelease(folder string) (http.Handler, error) {
	data, err := os.ReadFile(filepath.Join(folder, MarkFile))
	if err != nil {
		return nil, err
	}
	release := strings.TrimSpace(string(data))
	sick := func() bool {
		_, err := os.Stat(filepath.Join(folder, SickFile))
		return err == nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+MarkFile, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, release) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "hello from %s\n", release) })
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, receipt(release, n, sum.Sum(nil)))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/"+MarkFile && sick() {
			http.Error(w, "the database is out of reach", http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// receipt is what the application answers to an upload.
func receipt(release string, n int64, sum []byte) string {
	return fmt.Sprintf("%s %d %x\n", release, n, sum)
}

var variable = regexp.MustCompile(`%([^%]+)%`)

// Expand fills in the environment variables of a physical path, which IIS keeps as they are: %SystemDrive%\inetpub.
func Expand(physicalPath string) string {
	return variable.ReplaceAllStringFunc(physicalPath, func(v string) string { return os.Getenv(v[1 : len(v)-1]) })
}

// ReleaseOf tells which release is in a folder, by the file in it.
func ReleaseOf(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(Expand(dir), MarkFile))
	return strings.TrimSpace(string(data)), err
}
