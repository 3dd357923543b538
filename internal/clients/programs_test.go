package clients

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

var browser = flag.Bool("chromium", false, "run the test with headless Chromium, which is large")

// site is an application of HTTP/1.1 that tells what it got.
func site(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, _ := io.Copy(h, r.Body)
	w.Header().Set("Content-Type", "text/html")
	switch r.URL.Path {
	case "/page":
		io.WriteString(w, `<script>
			Promise.all(Array.from({length: 50}, (_, i) => fetch("/piece?" + i, {method: "POST", body: "x".repeat(1000 * i)}).then(r => r.text())))
				.then(t => document.body.innerText = "sum " + t.reduce((a, b) => a + Number(b), 0) + " by " + performance.getEntriesByType("navigation")[0].nextHopProtocol)
		</script><body>not yet</body>`)
	case "/piece":
		fmt.Fprint(w, n)
	default:
		fmt.Fprintf(w, "%s %d %x", r.Method, n, h.Sum(nil))
	}
}

func TestCurl(t *testing.T) {
	curl := program(t, "curl", "apt-get install curl")
	if !strings.Contains(run(t, curl, "--version"), "HTTP2") {
		t.Skip("this curl has no HTTP/2")
	}
	file := filepath.Join(t.TempDir(), "upload")
	data := make([]byte, 2<<20)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	want := fmt.Sprintf("POST %d %x 2", len(data), sha256.Sum256(data))
	for _, withTLS := range []bool{false, true} {
		f := serve(t, proxy.Config{Slots: map[string]string{"blue": app(t, site)}, Active: "blue"}, withTLS)
		args := []string{"-sS", "-k", "--data-binary", "@" + file, "-w", " %{http_version}", f.url + "/"}
		if withTLS {
			assert.Equal(t, want, run(t, curl, append([]string{"--http2"}, args...)...))
		} else {
			assert.Equal(t, want, run(t, curl, append([]string{"--http2-prior-knowledge"}, args...)...))
		}
		assert.Equal(t, strings.TrimSuffix(want, "2")+"1.1", run(t, curl, append([]string{"--http1.1"}, args...)...))
	}
}

func TestNghttp(t *testing.T) {
	nghttp := program(t, "nghttp", "apt-get install nghttp2-client")
	for _, withTLS := range []bool{false, true} {
		f := serve(t, proxy.Config{Slots: map[string]string{"blue": app(t, site)}, Active: "blue"}, withTLS)
		out := run(t, nghttp, "-v", "-m", "20", f.url+"/")
		assert.Equal(t, 20, strings.Count(out, ":status: 200"), out)
		assert.NotContains(t, out, "ENABLE_CONNECT_PROTOCOL", "extended CONNECT is not advertised")
		assert.Contains(t, out, "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):250")
	}
}

// TestH2load has a load generator send many streams at once, over switches, and loses none.
func TestH2load(t *testing.T) {
	h2load := program(t, "h2load", "apt-get install nghttp2-client")
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": app(t, site), "green": app(t, site)}, Active: "blue"}, true)
	done := make(chan string, 1)
	go func() { done <- run(t, h2load, "-n", "5000", "-c", "10", "-m", "50", f.url+"/") }()
	switches := 0
	for {
		select {
		case out := <-done:
			t.Logf("%d switches\n%s", switches, out)
			assert.Regexp(t, regexp.MustCompile(`5000 succeeded, 0 failed, 0 errored, 0 timeout`), out)
			assert.Contains(t, out, "status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx")
			return
		default:
			require.NoError(t, f.Activate(t.Context(), slot([]string{"green", "blue"}[switches%2])))
			switches++
		}
	}
}

// TestChromium has a browser load a page that sends fifty requests at once.
func TestChromium(t *testing.T) {
	if !*browser {
		t.Skip("needs -chromium")
	}
	chromium := program(t, "chromium", "apt-get install chromium")
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": app(t, site)}, Active: "blue"}, true)
	out := run(t, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--virtual-time-budget=20000", "--user-data-dir="+t.TempDir(),
		"--dump-dom", f.url+"/page")
	assert.Contains(t, out, "sum 1225000 by h2")
}
