package appcmd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/abswap/abswap/internal/multi"
)

// Verb is what a Command does.
type Verb string

// The verbs that this package builds.
const (
	List    Verb = "list"
	Add     Verb = "add"
	Set     Verb = "set"
	Delete  Verb = "delete"
	Start   Verb = "start"
	Stop    Verb = "stop"
	Recycle Verb = "recycle"
	Clear   Verb = "clear"
	Search  Verb = "search"
	Lock    Verb = "lock"
	Unlock  Verb = "unlock"
	Restore Verb = "restore"
)

// Object is the type of thing that a Command is about.
type Object string

// The types of objects that this package knows, as they are written in a command. Output has them in upper case.
const (
	SiteObject    Object = "site"
	AppObject     Object = "app"
	VDirObject    Object = "vdir"
	PoolObject    Object = "apppool"
	ConfigObject  Object = "config"
	WPObject      Object = "wp"
	RequestObject Object = "request"
	BackupObject  Object = "backup"
)

// Sections of the configuration that are steered through Command.Set, Append and Remove with SetConfig.
const (
	SectionSites = "system.applicationHost/sites"
	SectionPools = "system.applicationHost/applicationPools"
)

// Command is one call of appcmd. It is made by functions such as SetSite, and is a value: each method returns a new Command and leaves the
// old one as it was. A mistake in it (a name that cannot be quoted, for instance) is kept and told by Argv, together with all others.
type Command struct {
	verb   Verb
	object Object
	id     string // what it is about, for errors
	args   []arg
	commit string
	xml    bool
	text   string
	stdin  []byte
	blocks time.Duration
	err    error
}

type arg struct {
	text    string // all of it
	shown   string // with secrets masked
	secrets []string
}

// Masked stands in a printed command, or in a message of appcmd, where a secret is.
const Masked = "********"

// maxLine is how many UTF-16 units Windows takes for a command line, less the room that the path of the program may need.
const maxLine = 32767 - 1024

// Verb tells what c does.
func (c Command) Verb() Verb { return c.verb }

// Object tells what type of thing c is about.
func (c Command) Object() Object { return c.object }

// Target is the name of the one thing that c is about: of a site, a pool, an application ("Site/app"), or of a section; "" if it is about
// many.
func (c Command) Target() string { return c.id }

// Changes reports whether c is meant to change anything, configuration or running state.
func (c Command) Changes() bool { return c.verb != List && c.verb != Search }

// Runtime reports whether c starts, stops or recycles something, which leaves the configuration as it is.
func (c Command) Runtime() bool { return c.verb == Start || c.verb == Stop || c.verb == Recycle }

// Argv returns the arguments, without the program's name, each to be handed over as one (exec.Command quotes them as the program expects
// it; a shell must not see them). The error names all mistakes in c.
func (c Command) Argv() ([]string, error) {
	err := c.err
	if c.verb == "" || c.object == "" {
		err = multi.Join(err, errors.New("command without verb or object"))
	}
	argv := []string{string(c.verb), string(c.object)}
	for _, a := range c.all() {
		argv = append(argv, a.text)
	}
	if n := lineLength(argv); n > maxLine {
		err = multi.Join(err, fmt.Errorf("command of %d characters, Windows takes %d: split it", n, maxLine))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return argv, nil
}

// all returns the arguments with the general ones at the end.
func (c Command) all() []arg {
	all := slices.Clone(c.args)
	if c.commit != "" {
		all = append(all, plain("/commit:"+c.commit))
	}
	if c.text != "" {
		all = append(all, plain("/text:"+c.text))
	}
	if c.xml {
		all = append(all, plain("/xml"))
	}
	if c.stdin != nil {
		all = append(all, plain("/in"))
	}
	return all
}

// lineLength is at most how long the command line will be: quotes and doubled backslashes counted.
func lineLength(argv []string) int {
	n := 0
	for _, a := range argv {
		n += len(utf16.Encode([]rune(a))) + strings.Count(a, `\`) + strings.Count(a, `"`) + 3
	}
	return n
}

// String returns the command as one would type it at the prompt of cmd.exe, with secrets masked: passwords, values of environment
// variables, and what has a name like a secret's. User names are shown.
func (c Command) String() string {
	words := []string{"appcmd", string(c.verb), string(c.object)}
	for _, a := range c.all() {
		words = append(words, typed(a.shown))
	}
	return strings.Join(words, " ")
}

// typed quotes an argument for a reader. Quotes within it are doubled backslash-quotes, as the program's own rules want it.
func typed(a string) string {
	if a != "" && !strings.ContainsAny(a, " \t\"&|<>^()%!'[],;=`") {
		return a
	}
	slashes := len(a) - len(strings.TrimRight(a, `\`))
	return `"` + strings.ReplaceAll(a, `"`, `\"`) + strings.Repeat(`\`, slashes) + `"`
}

// secrets returns the values that must not be seen anywhere, the longest first.
func (c Command) secrets() []string {
	var all []string
	for _, a := range c.args {
		all = append(all, a.secrets...)
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// hide masks in s the secrets of c. If one is so short that the rest would tell it, nothing is left of s.
func (c Command) hide(s string) string {
	for _, secret := range c.secrets() {
		same := regexp.MustCompile("(?i)" + regexp.QuoteMeta(secret)) // appcmd repeats some words in upper case
		if len(secret) < 4 && same.MatchString(s) {
			return Masked
		}
		s = same.ReplaceAllLiteralString(s, Masked)
	}
	return s
}

func plain(text string) arg { return arg{text: text, shown: text} }

func (c Command) with(a arg) Command {
	c.args = append(c.args[:len(c.args):len(c.args)], a)
	return c
}

func (c Command) fail(err error) Command {
	c.err = multi.Join(c.err, err)
	return c
}

// With adds a property: /name:value. As a filter of a list it must be equal, without regard to case; in add and set it is the new value. A
// property whose name is also a general parameter of appcmd is escaped: /!debug:value. The value may be empty.
func (c Command) With(name, value string) Command {
	if err := checkAttr(name); err != nil {
		return c.fail(err)
	}
	if err := checkValue(name, value); err != nil {
		return c.fail(err)
	}
	if general(name) {
		name = "!" + name
	} else if c.object == ConfigObject && strings.EqualFold(name, "section") {
		return c.fail(fmt.Errorf("property %q of a section has the name of a parameter and no known escape", name))
	}
	return c.with(property("/"+name, value, isSecret(name)))
}

// Set sets an attribute below what c is about: /[name='x'].processModel.idleTimeout:value. With an empty path it is With.
func (c Command) Set(at Path, attr, value string) Command {
	if len(at) == 0 {
		return c.With(attr, value)
	}
	text, err := at.text()
	err = multi.Join(err, checkAttr(attr), checkValue(attr, value))
	if err != nil {
		return c.fail(err)
	}
	return c.with(property("/"+text+"."+attr, value, isSecret(attr) || at.secret()))
}

// Append adds an element to the collection at path: /+bindings.[protocol='http',bindingInformation='*:80:']. An empty path is the
// collection that c is about itself.
func (c Command) Append(at Path, item Step) Command { return c.element("/+", at, item) }

// Remove takes the element with these keys out of the collection at path: /-bindings.[protocol='http',bindingInformation='*:80:'].
func (c Command) Remove(at Path, item Step) Command { return c.element("/-", at, item) }

func (c Command) element(sign string, at Path, item Step) Command {
	all := append(at[:len(at):len(at)], item)
	text, err := all.text()
	if len(item.keys) == 0 {
		err = multi.Join(err, errors.New("an element is added and removed by its attributes: use Item"))
	}
	if err != nil {
		return c.fail(err)
	}
	a := plain(sign + text)
	for _, s := range all {
		a.secrets = append(a.secrets, s.secretValues(all.secret())...)
	}
	a.shown = sign + all.masked()
	return c.with(a)
}

func property(name, value string, secret bool) arg {
	a := plain(name + ":" + value)
	if secret && value != "" {
		a.secrets, a.shown = []string{value}, name+":"+Masked
	}
	return a
}

// Commit says in which file a set config is saved: "apphost" (the default of SetConfig and ClearConfig), "site", "app", "url", "parent",
// "webroot", "machine", or a configuration path. With "" no /commit is sent, and appcmd takes the path that is edited: a web.config in the
// site's own folder, where that path is a site.
func (c Command) Commit(to string) Command {
	if strings.ContainsAny(to, "\"'") || checkValue("commit", to) != nil {
		return c.fail(fmt.Errorf("commit path %q", to))
	}
	c.commit = to
	return c
}

// WithConfig makes a list show the configuration too, defaults included (/config:*).
func (c Command) WithConfig() Command { return c.with(plain("/config:*")) }

// XML makes the output XML.
func (c Command) XML() Command { c.xml = true; return c }

// Text makes the output the bare values of one attribute, a line for each object (see ParseValues), or with "*" all of them as a tree.
func (c Command) Text(attr string) Command {
	if attr != "*" {
		if err := checkAttr(attr); err != nil {
			return c.fail(err)
		}
	}
	c.text = attr
	return c
}

// In hands data, XML that a list has printed, to the command as its input.
func (c Command) In(data []byte) Command { c.stdin = slices.Clone(data); return c }

// Wait makes the start or stop of a pool return when it is done (/wait), or with an error after limit (/timeout, in ms; 0: without).
func (c Command) Wait(limit time.Duration) Command {
	c = c.with(plain("/wait"))
	if limit > 0 {
		c = c.with(plain(fmt.Sprintf("/timeout:%d", limit.Milliseconds())))
		c.blocks = max(c.blocks, limit)
	}
	return c
}

// Blocks says how long the command may take on top of Client.Timeout, because it waits for something. For commands that stop or recycle
// a pool the Client finds it out by itself, from the pool's shutdownTimeLimit, if it is 0.
func (c Command) Blocks(d time.Duration) Command { c.blocks = d; return c }
