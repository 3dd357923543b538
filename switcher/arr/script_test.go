package arr_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/arr"
)

// knownWords are what the script may use of PowerShell, of .NET and of Microsoft.Web.Administration: what is not among them is a slip of the pen, or
// should be looked up first.
func knownWords() map[string][]string {
	return map[string][]string{
		"command":  {"ConvertTo-Json", "ConvertFrom-Json", "New-Object", "Join-Path"},
		"operator": {"-eq", "-ne", "-f", "-cnotcontains", "-InputObject", "-Compress", "-Depth", "-CaseSensitive"},
		"type":     {"regex", "char", "int", "int64", "string", "bool", "void", "Console", "Environment", "Reflection.Assembly"},
		"member": {"Replace", "Value", "Out", "Write", "Flush", "In", "ReadLine", "TickCount", "LoadFrom", "Exception", "InnerException", "Message", "HResult", // .NET
			"Web", "Administration", "ServerManager", "Dispose", "GetApplicationHostConfiguration", "GetSection", "GetCollection", "GetChildElement", "GetAttribute", "GetAttributeValue",
			"SetAttributeValue", "Schema", "GetEnumValues", "GetName", "WorkerProcesses", "AppPoolName", "ProcessId", "State", "Methods", "CreateInstance", "Input", "Execute",
			"id", "ok", "call", "farm", "pool", "server", "state"}, // the protocol
		"variable": {"_", "null", "true", "false", "env", "ErrorActionPreference", "ProgressPreference"},
		"keyword":  {"function", "param", "foreach", "in", "if", "return", "throw", "try", "catch", "finally", "switch", "default", "while", "exit"},
	}
}

// piece is a part of a script.
type piece struct {
	kind string // "code", "comment", "string" in single quotes, "text" in double ones
	text string
}

// pieces takes a script apart.
func pieces(script string) (all []piece, err error) {
	for len(script) > 0 {
		var p piece
		switch script[0] {
		case '#':
			n := strings.IndexByte(script+"\n", '\n')
			p = piece{"comment", script[:n]}
		case '\'', '"':
			n := 1
			for ; n < len(script) && script[n] != script[0]; n++ {
				if script[n] == '\n' {
					return nil, fmt.Errorf("a string does not end on its line: %.40q", script)
				}
			}
			if n == len(script) {
				return nil, fmt.Errorf("a string does not end: %.40q", script)
			}
			p = piece{map[byte]string{'\'': "string", '"': "text"}[script[0]], script[:n+1]}
		default:
			n := strings.IndexAny(script, "#'\"")
			if n < 0 {
				n = len(script)
			}
			p = piece{"code", script[:n]}
		}
		all = append(all, p)
		script = script[len(p.text):]
	}
	return all, nil
}

// checkScript finds what can be found in a script without PowerShell.
func checkScript(script string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := strings.Count(script, "\n"); n >= 120 {
		bad("it has %d lines", n)
	}
	if i := strings.IndexFunc(script, func(r rune) bool { return r != '\n' && (r < ' ' || r >= 0x7f) }); i >= 0 {
		bad("it has more than printable ASCII: %.20q", script[i:])
	}
	all, err := pieces(script)
	if err != nil {
		return err
	}
	code, comments, texts := "", "", []string{}
	for _, p := range all {
		switch p.kind {
		case "code":
			code += p.text
		case "comment":
			comments += p.text + "\n"
		case "text":
			texts = append(texts, p.text)
			fallthrough
		default:
			code += "''"
		}
	}
	for _, s := range texts {
		if s != "\"`n\"" {
			bad("%s may hold data: strings are in single quotes", s)
		}
	}
	if err := balanced(code); err != nil {
		bad("%w", err)
	}
	known := knownWords()
	defined := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^function ([A-Z][a-z]+-[A-Z][A-Za-z]+)\(`).FindAllStringSubmatch(code, -1) {
		defined[m[1]] = 0
	}
	if len(defined) != strings.Count(code, "function ") {
		bad("a function has no name like Verb-Noun, or is there twice")
	}
	for _, w := range regexp.MustCompile(`\b[A-Z][a-z]+-[A-Z][A-Za-z]+`).FindAllString(code, -1) {
		if _, ok := defined[w]; ok {
			defined[w]++
		} else if !slices.Contains(known["command"], w) {
			bad("command %s is not known", w)
		}
	}
	for name, n := range defined {
		if n < 2 {
			bad("function %s is not used", name)
		}
	}
	for kind, pattern := range map[string]string{"operator": `(?:^|[\s(])(-[A-Za-z]+)`, "type": `(?:^|[\s(=[])\[([A-Za-z.0-9]+)\]`, "member": `(?:\.|::)([A-Za-z]+)`} {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(code, -1) {
			if !slices.Contains(known[kind], m[1]) && !slices.Contains(strings.Split(strings.Join(known["type"], "."), "."), m[1]) {
				bad("%s %s is not known", kind, m[1])
			}
		}
	}
	errs = append(errs, variables(code, known["variable"])...)
	for _, m := range regexp.MustCompile(`(?m)(?:^|[{;(=]) *([a-z]+)\b *(\S)`).FindAllStringSubmatch(code, -1) {
		if m[2] != "=" && !slices.Contains(known["keyword"], m[1]) {
			bad("%s at the begin of a statement is not known", m[1])
		}
	}
	for _, what := range []string{"Invoke-Expression", "iex", "Add-Type", "Start-Process", "scriptblock", "$(", "& ", "&$", "`"} {
		if strings.Contains(strings.ToLower(code), strings.ToLower(what)) {
			bad("%s makes code of data, or could", what)
		}
	}
	told, done := calls(comments, `"call":"([A-Za-z|]+)"`), calls(script, `(?m)^ +'([A-Za-z]+)' \{`)
	if !maps.Equal(told, done) || len(done) < 4 {
		bad("the protocol's comment has calls %v, the script %v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(done)))
	}
	if i, j := strings.Index(code, ".WorkerProcesses"), strings.Index(code, "{ Read-Server $"); i < 0 || j < i {
		bad("counters are read before worker processes: one that takes over in between would be taken for known")
	}
	return errors.Join(errs...)
}

// variables finds those that are used and never set.
func variables(code string, known []string) (errs []error) {
	set := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$([A-Za-z]+) =|foreach \(\$([A-Za-z]+) in`).FindAllStringSubmatch(code, -1) {
		set[m[1]], set[m[2]] = true, true
	}
	for _, m := range regexp.MustCompile(`(?:function [A-Za-z-]+|param)\(([^)]*)\)`).FindAllStringSubmatch(code, -1) {
		for _, name := range strings.Split(m[1], ",") {
			set[strings.TrimPrefix(strings.TrimSpace(name), "$")] = true
		}
	}
	for _, m := range regexp.MustCompile(`\$([A-Za-z_]+)`).FindAllStringSubmatch(code, -1) {
		if !set[m[1]] && !slices.Contains(known, m[1]) {
			errs = append(errs, fmt.Errorf("$%s is never set", m[1]))
		}
	}
	return errs
}

// calls are the names that a pattern finds.
func calls(text, pattern string) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		for _, name := range strings.Split(m[1], "|") {
			all[name] = true
		}
	}
	return all
}

// balanced wants each bracket to be closed by its own.
func balanced(code string) error {
	open := ""
	for i, r := range code {
		switch at := strings.IndexRune("([{)]}", r); {
		case at < 0:
		case at < 3:
			open += string(")]}"[at])
		case !strings.HasSuffix(open, string(r)):
			return fmt.Errorf("%q closes nothing: %.40q", r, code[i:])
		default:
			open = open[:len(open)-1]
		}
	}
	if open != "" {
		return fmt.Errorf("%q is missing at the end", open)
	}
	return nil
}

// TestScriptCheckBites: what checkScript is for, it finds.
func TestScriptCheckBites(t *testing.T) {
	for says, edit := range map[string][2]string{
		"closes nothing":        {"[Console]::Out.Flush()", "[Console]::Out.Flush())"},
		"is missing at the end": {"exit 3\n}", "exit 3\n"},
		"does not end":          {"throw 'there is no such call'", "throw 'there is no such call"},
		"may hold data":         {"throw ('there is no such ' + $what)", `throw "there is no such $what"`},
		"command Get-Farms":     {"Get-Farm $manager $farmName", "Get-Farms $manager $farmName"},
		"is not used":           {"sockets = Get-Counter $c 'currentWebSocketRequests'", "sockets = 0"},
		"member GetChildElemnt": {".GetChildElement('counters')", ".GetChildElemnt('counters')"},
		"operator -like":        {"-eq $value", "-like $value"},
		"type in64":             {"[int64]$q.id", "[in64]$q.id"},
		"$adress is never set":  {"'address' $address 'server'", "'address' $adress 'server'"},
		"the script [read":      {"'setHealthy' {", "'setHealty' {"},
		"protocol's comment":    {"setHealthy|setUnhealthy", "setHealthy"},
		"could":                 {"[void]$call.Execute()", "& $call.Execute()"},
		"printable ASCII":       {"# A counter", "# \u00c4 counter"},
		"taken for known":       {"$manager.WorkerProcesses", "$manager.Workers"},
		"at the begin":          {"foreach ($e in $collection)", "for each ($e in $collection)"},
		"Verb-Noun":             {"function Set-State(", "function SetState("},
	} {
		require.Contains(t, arr.Script, edit[0])
		assert.ErrorContains(t, checkScript(strings.Replace(arr.Script, edit[0], edit[1], 1)), says)
	}
	assert.ErrorContains(t, checkScript(arr.Script+strings.Repeat("\n", 10)), "lines")
}

func TestScript(t *testing.T) {
	assert.NoError(t, checkScript(arr.Script))
	args := arr.Arguments()
	raw, err := base64.StdEncoding.DecodeString(args[len(args)-1])
	require.NoError(t, err)
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = uint16(raw[2*i]) | uint16(raw[2*i+1])<<8
	}
	assert.Equal(t, arr.Script, string(utf16.Decode(units)))
	assert.Less(t, len(strings.Join(args, " ")), 32000, "a command line holds 32767")
}

// TestScriptForReal parses the script, and runs it as far as it goes, wherever there is a PowerShell.
func TestScriptForReal(t *testing.T) {
	t.Parallel()
	path := ""
	for _, name := range []string{"powershell", "pwsh"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" {
		t.Skip("there is no PowerShell on this machine: the script is neither parsed nor run")
	}
	if underWine() {
		t.Skip("the powershell.exe of Wine does nothing, and exits with 0")
	}
	file := filepath.Join(t.TempDir(), "script.ps1")
	require.NoError(t, os.WriteFile(file, []byte(arr.Script), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-NoProfile", "-NonInteractive", "-Command",
		`$e = $null; [void][Management.Automation.Language.Parser]::ParseFile($env:ARR_SCRIPT, [ref]$null, [ref]$e); $e | ForEach-Object { $_.Message }; exit $e.Count`)
	cmd.Env = append(os.Environ(), "ARR_SCRIPT="+file)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "the script has mistakes: %s", out)

	s := arr.NewShell(path, time.Minute, 2*time.Minute)
	defer func() { assert.NoError(t, s.Close()) }()
	answer, err := s.Call(ctx, []byte(`{"id":1,"call":"read","farm":"abswap-no-such-farm","pool":"p"}`))
	if err != nil { // no IIS here
		require.ErrorIs(t, err, arr.ErrNotCalled)
		assert.Contains(t, err.Error(), "the script cannot work", "on %s", runtime.GOOS)
		return
	}
	assert.Contains(t, string(answer), `"ok":false`)
	for id, call := range []string{`"call":"setState","farm":"f","server":"a","state":"Sideways"`, `"call":"no"`, `"call":"setHealthy","farm":"f","server":"a"`} {
		answer, err := s.Call(ctx, fmt.Appendf(nil, `{"id":%d,%s}`, id+2, call))
		require.NoError(t, err)
		assert.Contains(t, string(answer), `"ok":false`)
	}
}
