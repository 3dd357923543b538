package appcmd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

func seed(f *testing.F) {
	for _, x := range transcripts(f) {
		f.Add([]byte(x.body))
		f.Add([]byte(strings.ReplaceAll(x.body, "\n", "\r\r\n")))
	}
	files, err := filepath.Glob("testdata/*.madeup.*")
	require.NoError(f, err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("ERROR ( hresult:80070020, message:a (b)\nc )"))
	f.Add([]byte("\xff\xfe<\x00a\x00"))
}

// Whatever is printed, reading it ends, and what comes out is sound.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, page := range []uint32{0, 866, 1252} {
			text := appcmd.Decode(data, page)
			d, err := appcmd.Parse(text)
			if err != nil {
				assert.Nil(t, d)
				assert.True(t, strings.Contains(err.Error(), appcmd.ErrTruncated.Error()) || strings.Contains(err.Error(), appcmd.ErrMalformed.Error()), err)
				continue
			}
			sites, err := d.Sites()
			if err == nil {
				for _, s := range sites {
					assert.NotEmpty(t, s.Name)
					assert.NotZero(t, s.ID)
					assert.NotEmpty(t, s.State)
				}
			}
			_, _ = d.Apps()
			_, _ = d.VDirs()
			pools, err := d.Pools()
			if err == nil {
				for _, p := range pools {
					assert.NotEmpty(t, p.Name)
					assert.GreaterOrEqual(t, p.ShutdownTimeLimit, p.ShutdownTimeLimit*0)
				}
			}
			_, _ = d.WorkerProcesses()
			_, _ = d.Backups()
			requests, err := d.Requests()
			if err == nil {
				n := 0
				for _, e := range d.Entries {
					if e.Tag == "REQUEST" {
						n++
					}
				}
				assert.Len(t, requests, n, "none is forgotten")
			}
			for _, name := range []string{"system.applicationHost/sites", "system.webServer/proxy", "asp"} {
				_, _ = appcmd.SitesOf(d.Section(name))
				_, _ = appcmd.PoolsOf(d.Section(name))
			}
			assert.False(t, d.Error != nil && d.Empty())
		}
	})
}

// XML that is cut off is never taken for whole: not a list of requests, least of all.
func FuzzCutOff(f *testing.F) {
	const list = `<?xml version="1.0" encoding="UTF-8"?><appcmd><REQUEST REQUEST.NAME="a" Url="/x" Time="5"/><REQUEST REQUEST.NAME="b" Url="/?&quot;&gt;"></REQUEST></appcmd>`
	f.Add("/x", 10)
	f.Add("</appcmd>", 100)
	f.Add("\"/></appcmd><!--", 140)
	f.Add("]]>", 160)
	f.Fuzz(func(t *testing.T, url string, at int) {
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")
		text := strings.ReplaceAll(list, "/x", escape.Replace(strings.ToValidUTF8(url, "")))
		d, err := appcmd.Parse(text)
		require.NoError(t, err, text)
		requests, err := d.Requests()
		require.NoError(t, err)
		require.Len(t, requests, 2)
		if at <= 0 || at >= len(text) || !utf8.RuneStart(text[at]) {
			return
		}
		_, err = appcmd.Parse(text[:at])
		assert.ErrorIs(t, err, appcmd.ErrTruncated, text[:at])
	})
}

func FuzzFindMessage(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		text := appcmd.Decode(data, 850)
		m, found := appcmd.FindMessage(text)
		if !found {
			assert.Zero(t, m)
		}
		if d, err := appcmd.Parse(text); err == nil {
			assert.Equal(t, d.Error != nil, found)
		}
		err := appcmd.Judge(appcmd.SetPool("P"), text, 0)
		assert.Equal(t, found, err != nil)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
		}
		assert.Error(t, appcmd.Judge(appcmd.SetPool("P"), text, 32))
	})
}

func FuzzDecode(f *testing.F) {
	seed(f)
	f.Add([]byte("\xfe\xff\xd8\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, page := range []uint32{0, 437, 850, 852, 866, 1251, 1252, 64999} {
			text := appcmd.Decode(data, page)
			assert.True(t, utf8.ValidString(text))
			assert.NotContains(t, text, "\r")
		}
	})
}

func FuzzParseValues(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		text := appcmd.Decode(data, 0)
		if values, err := appcmd.ParseValues(text); err == nil && len(values) > 0 {
			assert.Equal(t, text, strings.Join(values, "\n")+"\n")
		}
	})
}

func FuzzBindings(f *testing.F) {
	f.Add("http/*:80:,https/[::1]:443:a")
	f.Add("net.pipe/*,,x")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := appcmd.ParseBindings(s)
		if err != nil {
			return
		}
		for _, b := range all {
			if address, port, host, err := b.Split(); err == nil {
				assert.NotEmpty(t, address)
				assert.NotZero(t, port)
				assert.True(t, strings.HasSuffix(b.Information, host))
			}
			assert.True(t, b.Same(b))
			if b.Check() == nil {
				again, err := appcmd.ParseBindings(b.String() + "," + b.String())
				require.NoError(t, err)
				assert.Equal(t, []appcmd.Binding{b, b}, again)
			}
		}
	})
}

func FuzzTimeSpan(f *testing.F) {
	for _, s := range []string{"00:01:30", "1.05:00:00", "36500.999999:59:59.999999999", "-1:0:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := appcmd.ParseTimeSpan(s)
		if err != nil {
			return
		}
		assert.GreaterOrEqual(t, int64(d), int64(0), s)
		again, err := appcmd.ParseTimeSpan(appcmd.FormatTimeSpan(d))
		require.NoError(t, err)
		assert.Equal(t, d.Truncate(1e9), again)
	})
}

func FuzzQuoting(f *testing.F) {
	f.Add("My Site", "Pool#1", `C:\x y\`)
	f.Add("a'b", "c]", "d\"e")
	f.Add("/", "%PATH%", "a^b&c")
	f.Fuzz(checkQuoting)
}
