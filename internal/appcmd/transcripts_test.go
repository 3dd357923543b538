package appcmd_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

var update = flag.Bool("update", false, "write the golden files")

// transcript is one file of testdata/transcripts.
type transcript struct {
	name, command string
	exit          uint32
	body          string // with line ends \n
}

// golden is what is made of it.
type golden struct {
	Document *appcmd.Document       `json:"document,omitempty"`
	Values   []string               `json:"values,omitempty"`
	Sites    []appcmd.Site          `json:"sites,omitempty"`
	Apps     []appcmd.App           `json:"apps,omitempty"`
	VDirs    []appcmd.Directory     `json:"vdirs,omitempty"`
	Pools    []appcmd.Pool          `json:"pools,omitempty"`
	WPs      []appcmd.WorkerProcess `json:"wps,omitempty"`
	Requests []appcmd.Request       `json:"requests,omitempty"`
	Backups  []appcmd.Backup        `json:"backups,omitempty"`
	Parse    string                 `json:"parse,omitempty"` // error of parsing
	Judged   string                 `json:"judged,omitempty"`
}

var exitNumber = regexp.MustCompile(`^\d+`)

func transcripts(t testing.TB) []transcript {
	t.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.Greater(t, len(files), 50)
	var all []transcript
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		head, body, ok := strings.Cut(string(data), "# ---\n")
		require.True(t, ok, f)
		x := transcript{name: strings.TrimSuffix(filepath.Base(f), ".txt"), body: body}
		require.Contains(t, head, "# source: ", f)
		for line := range strings.Lines(head) {
			if v, ok := strings.CutPrefix(line, "# command: "); ok {
				x.command = strings.TrimSpace(v)
			}
			if v, ok := strings.CutPrefix(line, "# exit: "); ok {
				n, _ := strconv.ParseUint(exitNumber.FindString(v), 10, 32)
				x.exit = uint32(n)
			}
		}
		all = append(all, x)
	}
	return all
}

var textOf = regexp.MustCompile(`/text:[A-Za-z]`)

func (x transcript) read(text string) golden {
	var g golden
	var err error
	if textOf.MatchString(x.command) {
		g.Values, err = appcmd.ParseValues(text)
	} else if g.Document, err = appcmd.Parse(text); err == nil {
		var errs [7]error
		d := g.Document
		g.Sites, errs[0] = d.Sites()
		g.Apps, errs[1] = d.Apps()
		g.VDirs, errs[2] = d.VDirs()
		g.Pools, errs[3] = d.Pools()
		g.WPs, errs[4] = d.WorkerProcesses()
		g.Requests, errs[5] = d.Requests()
		g.Backups, errs[6] = d.Backups()
		err = errors.Join(errs[:]...)
	}
	if err != nil {
		g.Parse = err.Error()
	}
	cmd := appcmd.SetPool("P")
	if strings.Contains(x.command, "appcmd list") || strings.Contains(x.command, "appcmd.exe list") {
		cmd = appcmd.ListSites("P")
	}
	if err := appcmd.Judge(cmd, text, x.exit); err != nil {
		g.Judged = err.Error()
	}
	return g
}

func TestTranscripts(t *testing.T) {
	for _, x := range transcripts(t) {
		t.Run(x.name, func(t *testing.T) {
			text, err := json.MarshalIndent(x.read(x.body), "", "  ")
			require.NoError(t, err)
			text = append(text, '\n')
			path := filepath.Join("testdata/transcripts", x.name+".json")
			if *update {
				require.NoError(t, os.WriteFile(path, text, 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), string(text))

			// As the tool writes it, the same comes out.
			for name, raw := range map[string]string{
				"CRLF":   strings.ReplaceAll(x.body, "\n", "\r\n"),
				"CRCRLF": strings.ReplaceAll(x.body, "\n", "\r\r\n"),
				"BOM":    "\uFEFF" + x.body,
			} {
				again, err := json.MarshalIndent(x.read(appcmd.Decode([]byte(raw), 0)), "", "  ")
				require.NoError(t, err)
				assert.Equal(t, string(text), string(again)+"\n", name)
			}
		})
	}
}

// Cut off anywhere, a list is never shorter without an error: the last line break is missing, or the end of the XML.
func TestTranscriptsCutOff(t *testing.T) {
	for _, x := range transcripts(t) {
		whole := x.read(x.body)
		if whole.Document == nil || len(whole.Document.Entries) == 0 {
			continue
		}
		ends := map[int]bool{len(x.body): true} // where plain text may end between two objects
		if !whole.Document.XML {
			for i := range x.body {
				if x.body[i] == '\n' {
					ends[i+1] = true
				}
			}
		}
		for i := 1; i < len(x.body); i++ {
			cut := x.read(x.body[:i])
			if cut.Parse != "" || ends[i] {
				continue
			}
			if whole.Document.XML && len(strings.TrimSpace(x.body[i:])) > 0 && len(cut.Document.Entries) == strings.Count(x.body[:i], "</appcmd>") {
				continue // two documents, cut between them
			}
			if strings.TrimSpace(x.body[:i]) == "" || whole.Document.XML && strings.TrimSpace(x.body[i:]) == "" {
				continue
			}
			t.Errorf("%s: cut off after %q nobody complains", x.name, x.body[:i])
		}
	}
}
