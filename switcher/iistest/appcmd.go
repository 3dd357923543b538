package iistest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// Command is an appcmd command that has been run.
type Command struct {
	Args  []string
	Exit  uint32
	Begin time.Time
	Took  time.Duration // real time
}

// run is one command while it runs.
type run struct {
	s     *Server
	ctx   context.Context
	args  []string
	stdin []byte

	verb, object string // upper case
	id           string
	hasID        bool
	params       []param
	xml          bool
	textOf       string // /text:x; "*": all
	config       string // /config: "explicit"; /config:*: "*"
	in           bool
	commitPath   string
	section      string
	flags        map[string]string // other general parameters, such as wait and timeout

	out     strings.Builder
	objects []object // of a list, for XML
	shown   *file    // where their configuration is from
	listed  bool
	plain   bool // the output is XML already
	exit    uint32
}

// errKilled: the command's process was killed while it hung.
var errKilled = errors.New("process killed")

// Appcmd runs a command as appcmd.exe would, without a process: args are those behind the program's name. It returns what the program prints
// (it prints everything on its standard output) and its exit code. If ctx ends the program is killed: what it has not done yet it does not do.
func (s *Server) Appcmd(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32) {
	r := &run{s: s, ctx: ctx, args: slices.Clone(args), stdin: stdin, flags: map[string]string{}}
	begin := time.Now()
	err := r.do()
	if err == nil && !r.hang(HangAfter) {
		err = errKilled
	}
	stdout, exit = r.end(err)
	s.mu.Lock()
	s.commands = append(s.commands, Command{r.args, exit, begin, time.Since(begin)})
	s.mu.Unlock()
	s.cfg.Logger.Debug("appcmd", "args", r.args, "exit", exit)
	return stdout, exit
}

// Commands lists the commands that have ended, in that order.
func (s *Server) Commands() []Command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

func (r *run) do() error {
	if r.s.ctx.Err() != nil {
		return ErrClosed
	}
	if err := r.parse(); err != nil {
		return err
	}
	if !r.hang(HangBefore) || r.ctx.Err() != nil {
		return errKilled
	}
	return r.dispatch()
}

// end makes the output and exit code of a command that ended with err.
func (r *run) end(err error) ([]byte, uint32) {
	if errors.Is(err, errKilled) || errors.Is(err, ErrClosed) {
		return nil, 1
	}
	exit := r.exit
	var text string
	switch {
	case err == nil && r.xml && r.listed:
		text = r.renderXML(r.objects)
	case err == nil:
		text = r.out.String()
		if r.xml && !r.plain {
			text = r.renderStatus(nil)
		}
	default:
		f := asFailure(err)
		exit = f.exit
		switch {
		case f.usage:
			return r.encode(r.out.String()+strings.ReplaceAll(r.s.words(f)+"\n", "\n", "\r\r\n"), false), exit
		case r.xml && r.s.q.XMLErrors == On:
			text = r.renderStatus(f)
		default:
			text = r.out.String() + r.s.line(f) + "\n"
		}
	}
	if err == nil && r.listed && len(r.objects) == 0 && (r.s.q.EmptyListFails == On || r.hasID) {
		exit = 1
	}
	return r.encode(strings.ReplaceAll(text, "\n", "\r\n"), r.xml), exit
}

func (r *run) encode(text string, utf8 bool) []byte {
	if r.s.cfg.Encode == nil || utf8 {
		return []byte(text)
	}
	return r.s.cfg.Encode(text)
}

// say prints a line in the machine's language.
func (r *run) say(format string, args ...any) { r.out.WriteString(r.s.text(format, args...) + "\n") }

var objectNames = []string{"SITE", "APP", "VDIR", "APPPOOL", "CONFIG", "WP", "REQUEST", "MODULE", "BACKUP", "TRACE", "BINDING"}

// verbs of each object.
func verbs(object string) []string {
	switch object {
	case "SITE":
		return []string{"LIST", "ADD", "SET", "DELETE", "START", "STOP"}
	case "APPPOOL":
		return []string{"LIST", "ADD", "SET", "DELETE", "START", "STOP", "RECYCLE"}
	case "APP", "VDIR":
		return []string{"LIST", "ADD", "SET", "DELETE"}
	case "CONFIG":
		return []string{"LIST", "SET", "SEARCH", "CLEAR"}
	case "BACKUP":
		return []string{"LIST", "ADD", "DELETE", "RESTORE"}
	}
	return []string{"LIST"}
}

// parse reads the command line.
func (r *run) parse() error {
	var words []string
	var args []string
	for _, a := range r.args {
		if len(a) > 1 && (a[0] == '/' || a[0] == '-') || a == "-" {
			args = append(args, a)
		} else {
			words = append(words, a)
		}
	}
	if slices.Contains(args, "/?") || slices.Contains(args, "-?") || len(words) == 0 {
		return &failure{exit: 1, usage: true,
			format: "General purpose IIS command line administration tool.\n\nAPPCMD (command) (object-type) <identifier> </parameter1:value1 ...>"}
	}
	r.verb = strings.ToUpper(words[0])
	if len(words) < 2 {
		return &failure{exit: exitInvalidParameter, usage: true, format: "Command '%s' is not supported.  Run 'appcmd.exe /?' to display supported commands.", args: []any{r.verb}}
	}
	object := strings.ToUpper(words[1])
	if i := slices.IndexFunc(objectNames, func(n string) bool { return object == n || object == n+"S" }); i >= 0 {
		r.object = objectNames[i]
	} else {
		return &failure{exit: exitInvalidParameter, usage: true, format: "Object '%s' is not supported.  Run 'appcmd.exe /?' to display supported objects.", args: []any{object}}
	}
	if !slices.Contains(verbs(r.object), r.verb) {
		return &failure{exit: exitInvalidParameter, usage: true,
			format: "Command '%s' is not supported on object '%s'. Run 'appcmd.exe %s /?'\nto display supported commands.", args: []any{r.verb, r.object, r.object}}
	}
	if len(words) > 2 {
		r.id, r.hasID = words[2], true
	}
	if len(words) > 3 {
		return message(exitInvalidParameter, "Failed to process input: The parameter '%s' must begin with a / or - .", words[3])
	}
	for _, a := range args {
		if err := r.readArg(a); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) readArg(arg string) error {
	if arg == "-" {
		r.in = true
		return nil
	}
	p := readParam(arg[1:])
	if p.op == 0 && strings.HasPrefix(p.path, "!") { // a property named like a general parameter
		p.path = p.path[1:]
		r.params = append(r.params, p)
		return nil
	}
	name := strings.ToLower(p.path)
	if p.op == 0 {
		switch name {
		case "xml":
			r.xml = true
			return nil
		case "text":
			if r.textOf = p.value; !p.hasValue {
				r.textOf = ""
			}
			return nil
		case "config":
			if r.config = "explicit"; p.value == "*" {
				r.config = "*"
			}
			return nil
		case "in":
			r.in = true
			return nil
		case "commit":
			r.commitPath = strings.ToLower(p.value)
			return nil
		case "section":
			r.section = p.value
			return nil
		case "metadata", "debug", "wait", "timeout", "stop":
			r.flags[name] = p.value
			return nil
		case "apphostconfig":
			r.flags[name] = p.value
			return nil
		}
		// Its own object's name is the identifier; in a list it is a filter like any other.
		if name == strings.ToLower(r.object)+".name" && r.verb != "ADD" {
			r.id, r.hasID = p.value, true
			return nil
		}
	}
	r.params = append(r.params, p)
	return nil
}

// param takes a property out of the arguments.
func (r *run) param(names ...string) (string, bool) {
	for i, p := range r.params {
		if p.op == 0 && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, p.path) }) {
			r.params = slices.Delete(r.params, i, i+1)
			return p.value, true
		}
	}
	return "", false
}

// changes tells whether the command changes something.
func (r *run) changes() bool { return r.verb != "LIST" && r.verb != "SEARCH" }

// runtime tells whether the command asks the services and not the configuration alone.
func (r *run) runtime() bool {
	return slices.Contains([]string{"START", "STOP", "RECYCLE"}, r.verb) || r.object == "WP" || r.object == "REQUEST"
}

func (r *run) dispatch() error {
	s := r.s
	s.mu.Lock()
	up, elevation, noMonitor := s.up, s.elevation, s.noMonitor
	rpc := s.rpcDue && r.runtime()
	if rpc {
		s.rpcDue = false
	}
	s.mu.Unlock()
	switch {
	case elevation == NotElevatedRedirect:
		return redirectionDenied()
	case elevation == NotElevatedWAS && (r.runtime() || r.object == "SITE" || r.object == "APPPOOL"):
		return serviceDown()
	case elevation != Elevated && r.changes():
		return system(0x80070005, "Access is denied.")
	case r.runtime() && (!up || elevation != Elevated):
		return serviceDown()
	case r.runtime() && (rpc || r.fault(RPCFailed) != nil):
		return rpcFailed()
	case r.runtime() && r.fault(RPCTerminated) != nil:
		return &failure{hresult: 0x80010006, exit: 0x80010006, format: "Command execution failed.\nThe object invoked has disconnected from its clients.\n"}
	case r.runtime() && r.changes() && r.fault(ObjectUnknown) != nil:
		return invalidObject()
	case r.object == "REQUEST" && noMonitor:
		return system(notImplemented, "Not implemented")
	}
	if r.in && r.verb != "ADD" {
		return r.piped()
	}
	switch r.object {
	case "SITE":
		return r.site()
	case "APP":
		return r.app()
	case "VDIR":
		return r.vdir()
	case "APPPOOL":
		return r.pool()
	case "CONFIG":
		return r.sectionCommand()
	case "BACKUP":
		return r.backup()
	case "WP":
		return r.list(r.workers())
	case "REQUEST":
		return r.list(r.requests())
	}
	return r.list(nil, nil, nil) // modules, traces, bindings: the machine has none
}

// file is a configuration file while a command edits it.
type file struct {
	path string
	was  []byte // nil: it is not there
	doc  *bytexml.Doc
}

// open reads applicationHost.config, or the file that /apphostconfig names.
func (r *run) open() (*file, error) {
	path := r.s.ConfigPath()
	if other, ok := r.flags["apphostconfig"]; ok {
		path = r.s.folder(other)
	}
	return openFile(path, "")
}

// openFile reads a configuration file; with fresh, one that is not there begins with that content.
func openFile(path, fresh string) (*file, error) {
	data, err := atomicfile.Read(path)
	f := &file{path: path, was: data}
	if errors.Is(err, fs.ErrNotExist) && fresh != "" {
		f.was, data, err = nil, []byte(fresh), nil
	}
	if err == nil {
		f.doc, err = bytexml.Parse(bytes.Clone(data))
	}
	if err == nil && fresh == "" {
		_, err = readHost(f.doc)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unreadable(path, "Cannot read configuration file")
	}
	if err != nil {
		return nil, unreadable(path, err.Error())
	}
	return f, nil
}

// commit writes the file. say prints the success lines: before the commit, as appcmd does.
func (r *run) commit(f *file, say func()) error {
	if r.s.q.SuccessLineBeforeCommit == On {
		say()
	}
	if _, err := readHost(f.doc); err != nil && f.path == r.s.ConfigPath() {
		return asFailure(err)
	}
	if r.ctx.Err() != nil {
		return errKilled
	}
	if r.fault(SharingViolation) != nil {
		return sharingViolation()
	}
	if bytes.Equal(f.was, f.doc.Bytes()) {
		r.exit = r.s.q.NoChangeExit
	} else if err := r.s.replace(f.path, f.was, f.doc.Bytes()); errors.Is(err, errChangedOnDisk) {
		return sharingViolation()
	} else if err != nil {
		return asFailure(err)
	}
	if r.s.q.SuccessLineBeforeCommit != On {
		say()
	}
	return nil
}

// section returns the element of a section, made if it is not there.
func (f *file) section(path string) (cursor, error) {
	n := f.doc.Root()
	for _, part := range strings.Split(path, "/") {
		next := n.Child(part)
		if next == nil {
			var err error
			if next, err = f.doc.Insert(n, len(n.Children), bytexml.Element{Name: part}); err != nil {
				return cursor{}, err
			}
		}
		n = next
	}
	return cursor{n, schemaOf(path)}, nil
}

// changeAll applies the property arguments left, in their order, below the place that at finds.
func (r *run) changeAll(f *file, at cursor) (cursor, error) {
	add, remove, paths := false, false, 0
	for _, p := range r.params {
		add, remove = add || p.op == '+', remove || p.op == '-'
		if p.op == 0 && strings.Contains(p.path, "[") {
			paths++
		}
	}
	if add && remove && r.s.q.AddAndRemoveRefused == On || paths > 1 && r.s.q.SeveralPathsRefused == On {
		return at, badValue()
	}
	for _, p := range r.params {
		var err error
		if at, err = f.change(at, p, r.s.q.DoubledQuotes == On); err != nil {
			return at, err
		}
	}
	return at, nil
}
