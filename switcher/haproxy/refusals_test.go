package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/haproxy"
)

// scripted is a socket that answers commands by a function. The empty line at the end is the function's to give. It is for bubbles: its patience
// is short, and there the time that a busy machine takes does not count.
func scripted(t *testing.T, answer func(command string) string) haproxy.Runtime {
	t.Helper()
	var serve sync.WaitGroup
	t.Cleanup(serve.Wait)
	return haproxy.Runtime{Stats: "scripted:1", Patience: 500 * time.Millisecond, Timeout: 10 * time.Second,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			serve.Go(func() {
				defer theirs.Close()
				buf := make([]byte, 4096)
				n, err := theirs.Read(buf)
				if err == nil {
					_, _ = io.WriteString(theirs, answer(strings.TrimSuffix(string(buf[:n]), "\n")))
				}
			})
			return ours, nil
		}}
}

func TestEveryRefusalHasItsError(t *testing.T) {
	for text, want := range map[string]error{
		"Can't find the target PID matching the prefix '@!99'": haproxy.ErrNoWorker,
		"No such backend.": haproxy.ErrNoBackend, "No such proxy.": haproxy.ErrNoBackend, "Can't find backend.": haproxy.ErrNoBackend,
		"No such server.": haproxy.ErrNoServer, "Require 'backend/server'.": haproxy.ErrNoServer,
		"Unknown map identifier. Please use #<id> or <file>.": haproxy.ErrNoMap,
		"entry not found.": haproxy.ErrNoKey, "key or pattern not found": haproxy.ErrNoKey,
		"No such session (use 'show sess').": haproxy.ErrNoSession,
		"Permission denied":                  haproxy.ErrDenied, "This command is restricted to expert mode only.": haproxy.ErrDenied,
		"'set server <srv> state' expects 'ready', 'drain' and 'maint'.":                   haproxy.ErrBadArgument,
		"Absolute weight can only be between 0 and 256 inclusive.":                         haproxy.ErrBadArgument,
		"Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.": haproxy.ErrStaticBalance,
		"Proxy is disabled.": haproxy.ErrDisabled,
		"Unknown command, but maybe one of the following ones is a better match:\n  add acl": haproxy.ErrUnknownCommand,
	} {
		err := haproxy.Refusal(7, "some command", text+"\n\n")
		assert.ErrorIs(t, err, want, text)
		assert.ErrorIs(t, err, haproxy.ErrRefused, text)
		refused, ok := errors.AsType[*haproxy.RefusalError](err)
		require.True(t, ok)
		assert.Equal(t, 7, refused.Worker)
		assert.True(t, strings.HasPrefix(text, refused.Text), refused.Text)
		assert.NotContains(t, err.Error(), "\n")
	}
	assert.NoError(t, haproxy.Refusal(7, "show info", "Name: HAProxy\n\n"))
}

// mapOn is a map switcher on a scripted socket.
func mapOn(t *testing.T, rt haproxy.Runtime, file string) *haproxy.MapSwitcher {
	t.Helper()
	sw, err := haproxy.NewMap(haproxy.MapConfig{Runtime: rt, File: file, Map: "/etc/slots.map", Key: "mysite", Backends: map[string]string{"blue": "be_blue", "green": "be_green"}})
	require.NoError(t, err)
	return sw
}

// calm is a HAProxy of two backends whose map leads to *to.
func calm(to *string) func(string) string {
	return func(command string) string {
		switch f := strings.Fields(command); {
		case strings.HasPrefix(command, "get map "):
			return fmt.Sprintf("type=str, case=sensitive, found=yes, idx=tree, key=\"mysite\", value=%q, type=\"str\"\n\n", *to)
		case strings.HasPrefix(command, "set map "):
			*to = f[len(f)-1]
			return "\n"
		case strings.HasPrefix(command, "show stat "):
			return fmt.Sprintf("# pxname,svname,qcur,scur,status,\n%[1]s,one,0,2,UP,\n%[1]s,BACKEND,0,3,UP,\n\n", f[2])
		case command == "show fd 0", command == "show info", command == "show sess all":
			return "CurrConns: 5000\n\n"
		case command == "show cli level":
			return "admin\n\n"
		case command == "show proc":
			return "#<PID> <type> <reloads> <uptime> <version>\n1 master 0 [failed: 0] 0d00h00m01s 2.6\n# workers\n7 worker 0 0d00h00m01s 2.6\n\n"
		}
		return "Unknown command.\n\n"
	}
}

func TestTheFileIsWrittenBeforeTheRuntimeAndPutBackAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "slots.map")
		write(t, file, "mysite be_blue\n")
		to, atSet := "be_blue", ""
		rest := calm(&to)
		sw := mapOn(t, scripted(t, func(c string) string {
			if strings.HasPrefix(c, "set map ") {
				atSet = read(t, file)
				return "Permission denied\n\n"
			}
			return rest(c)
		}), file)
		blue, green := slots()
		err := sw.Activate(t.Context(), green)
		assert.ErrorIs(t, err, haproxy.ErrDenied)
		assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
		assert.Equal(t, "mysite be_green\n", atSet, "the file comes first")
		assert.Equal(t, "mysite be_blue\n", read(t, file), "no reload moves the traffic")
		active, err := sw.Active(t.Context())
		require.NoError(t, err)
		assert.Equal(t, blue.Name(), active)
	})
}

// A file that was replaced, and could not be flushed to the disk, leads no reload to a slot that was not switched to.
func TestAFileThatIsNotFlushedIsPutBack(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("needs a folder in which this user may replace files, and which it may not open")
	}
	folder := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "files")
		require.NoError(t, os.Mkdir(dir, 0o700))
		t.Cleanup(func() { assert.NoError(t, os.Chmod(dir, 0o700)) })
		return dir
	}
	_, green := slots()
	t.Run("map", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			file := filepath.Join(folder(t), "slots.map")
			write(t, file, "mysite be_blue\n")
			require.NoError(t, os.Chmod(filepath.Dir(file), 0o300))
			to := "be_blue"
			err := mapOn(t, scripted(t, calm(&to)), file).Activate(t.Context(), green)
			assert.ErrorContains(t, err, "not flushed")
			assert.Equal(t, "be_blue", to)
			assert.Equal(t, "mysite be_blue\n", read(t, file))
		})
	})
	t.Run("servers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			file := filepath.Join(folder(t), "be_site.state")
			require.NoError(t, os.Chmod(filepath.Dir(file), 0o300))
			const states = "1\n# be_name srv_name srv_op_state srv_admin_state srv_uweight srv_iweight\nbe_site blue 2 0 1 1\nbe_site green 2 8 1 1\n"
			rt := scripted(t, func(command string) string {
				assert.NotContains(t, command, "set server")
				switch {
				case strings.HasPrefix(command, "show servers state "):
					return states + "\n"
				case strings.HasPrefix(command, "show stat "):
					return "# pxname,svname,qcur,scur,status,\nbe_site,BACKEND,0,0,UP,\n\n"
				}
				return "\n"
			})
			sw, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: rt, Backend: "be_site", StateFile: file,
				Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}}})
			require.NoError(t, err)
			assert.ErrorContains(t, sw.Activate(t.Context(), green), "not flushed")
			assert.Equal(t, states, read(t, file))
		})
	})
}

func TestAChangeThatIsNotInForceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "slots.map")
		write(t, file, "mysite be_blue\n")
		to := "be_blue"
		rest := calm(&to)
		sw := mapOn(t, scripted(t, func(c string) string {
			if strings.HasPrefix(c, "set map ") {
				return "\n" // and does nothing
			}
			return rest(c)
		}), file)
		_, green := slots()
		err := sw.Activate(t.Context(), green)
		assert.ErrorIs(t, err, haproxy.ErrNotApplied)
		assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
		assert.Equal(t, "mysite be_blue\n", read(t, file))
	})
}

func TestWrongNamesAreRefusedBeforeAnythingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "slots.map")
		write(t, file, "mysite be_blue\n")
		to := "be_blue"
		rest := calm(&to)
		for answer, want := range map[string]error{
			"show stat be_green 6 -1|No such proxy.\n\n":                                                                      haproxy.ErrNoBackend,
			"show stat be_green 6 -1|# pxname,svname,qcur,scur,status,\n\n":                                                   haproxy.ErrNoBackend,
			"show stat be_green 6 -1|# pxname,svname,qcur,scur,status,\nbe_green,BACKEND,0,0,UP,\n\n":                         abswap.ErrNotReady,
			"show stat be_green 6 -1|# pxname,svname,qcur,scur,status,\nbe_green,a,0,0,DOWN,\nbe_green,BACKEND,0,0,DOWN,\n\n": abswap.ErrNotReady,
			"show stat be_green 6 -1|garbage\n\n":                                                                             haproxy.ErrBadAnswer,
			"show stat be_green 6 -1|# pxname,svname,qcur,scur,stat":                                                          haproxy.ErrCutAnswer,
			"show stat be_green 6 -1|":                                                                                        haproxy.ErrCutAnswer,
			"get map /etc/slots.map mysite|Unknown map identifier. Please use #<id> or <file>.\n\n":                           haproxy.ErrNoMap,
			"get map /etc/slots.map mysite|type=str, case=sensitive, found=no\n\n":                                            haproxy.ErrNoKey,
		} {
			command, text, _ := strings.Cut(answer, "|")
			sw := mapOn(t, scripted(t, func(c string) string {
				assert.NotContains(t, c, "set map")
				if c == command {
					return text
				}
				return rest(c)
			}), file)
			_, green := slots()
			err := sw.Activate(t.Context(), green)
			assert.ErrorIs(t, err, want, answer)
			assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome, answer)
			assert.Equal(t, "mysite be_blue\n", read(t, file), answer)
		}
		write(t, file, "other be_blue\n")
		_, green := slots()
		assert.ErrorIs(t, mapOn(t, scripted(t, rest), file).Activate(t.Context(), green), haproxy.ErrNoKey, "the file lacks the key")
	})
}

func TestAKeyThatLeadsElsewhereIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := "be_stranger"
		sw := mapOn(t, scripted(t, calm(&to)), filepath.Join(t.TempDir(), "absent.map"))
		_, err := sw.Active(t.Context())
		assert.ErrorIs(t, err, haproxy.ErrNotOurs)
	})
}

func TestManyConnectionsAreCountedWithoutLookingAtEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := "be_blue"
		sw := mapOn(t, scripted(t, calm(&to)), filepath.Join(t.TempDir(), "absent.map"))
		blue, _ := slots()
		l, err := sw.InFlight(t.Context(), blue)
		require.NoError(t, err)
		assert.Equal(t, 3, l.Requests, "what waits in the backend without a server counts")
		assert.Zero(t, l.Upgraded)
		assert.Equal(t, abswap.EvidenceExact, l.Evidence)
	})
}

func TestAnAnswerThatIsCutIsNoCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := "be_blue"
		rest := calm(&to)
		sw := mapOn(t, scripted(t, func(c string) string {
			if strings.HasPrefix(c, "show stat") {
				return strings.TrimSuffix(rest(c), "be_blue,BACKEND,0,3,UP,\n\n")
			}
			return rest(c)
		}), filepath.Join(t.TempDir(), "absent.map"))
		blue, _ := slots()
		l, err := sw.InFlight(t.Context(), blue)
		assert.ErrorIs(t, err, haproxy.ErrCutAnswer)
		assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
	})
}

func TestMistakesInConfigs(t *testing.T) {
	_, err := haproxy.NewMap(haproxy.MapConfig{})
	assert.Len(t, multi.All(errors.Unwrap(err)), 4, "%v", err)
	_, err = haproxy.NewMap(haproxy.MapConfig{Runtime: haproxy.Runtime{Master: "/m", Stats: "/s", Timeout: -1}, File: "/x;y", Key: "a b", Closed: "be_a",
		Backends: map[string]string{"a": "be_a", "b": "be_a", "c": "be c"}})
	assert.Len(t, multi.All(errors.Unwrap(err)), 7, "%v", err)
	_, err = haproxy.NewServers(haproxy.ServersConfig{Runtime: haproxy.Runtime{Master: "/m"}, Backend: "be;x",
		Slots: map[string][]string{"a": {"s", "s"}, "b": nil, "": {"t"}}})
	assert.Len(t, multi.All(errors.Unwrap(err)), 4, "%v", err)
	_, err = haproxy.NewMap(haproxy.MapConfig{Runtime: haproxy.Runtime{Master: "/m"}, File: "/x", Map: "#3", Key: "k", Backends: map[string]string{"a": "be_a", "b": "be_b"}})
	assert.NoError(t, err)
}
