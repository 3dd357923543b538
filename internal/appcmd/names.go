package appcmd

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Characters that the schema of IIS does not allow. The published schema forbids only two in the name of a site.
const (
	notInSite = `/?`
	notInPool = "|<>&\"/[]+=;:,?*@\\`"
	notInURL  = `\?"<>|*:`
	notInFile = `"<>|*?`
)

var (
	attrName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.\-]*$`)
	protocolName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.+\-]*$`)
	sectionName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.\-]*(/[A-Za-z][A-Za-z0-9.\-]*)*$`)
	windowsRoot  = regexp.MustCompile(`^([A-Za-z]:\\|\\\\[^\\]|%[A-Za-z0-9_()]+%)`)
)

// CheckSiteName tells why name cannot be the name of a site, or be passed to appcmd; nil if it can.
func CheckSiteName(name string) error { return checkName("site", name, notInSite) }

// CheckPoolName tells why name cannot be the name of an application pool, or be passed to appcmd; nil if it can.
func CheckPoolName(name string) error { return checkName("application pool", name, notInPool) }

// CheckAppPath tells why path cannot be the path of an application or of a virtual directory: it begins with a slash and, but for the root,
// ends without one.
func CheckAppPath(path string) error {
	if err := checkName("application", path, notInURL); err != nil {
		return err
	}
	if path != "/" && (!strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//")) {
		return fmt.Errorf("path %q of an application: it begins with a slash and does not end with one", path)
	}
	return nil
}

// CheckFolder tells why path cannot be a physical path: it is absolute (or begins with an environment variable, which IIS expands) and
// has no character that Windows forbids.
func CheckFolder(path string) error {
	rest := strings.TrimPrefix(path, `\\?\`)
	if err := checkName("folder", rest, notInFile); err != nil {
		return err
	}
	if !windowsRoot.MatchString(rest) && !filepath.IsAbs(path) {
		return fmt.Errorf("folder %q is not absolute", path)
	}
	if i := strings.LastIndexByte(rest, ':'); i > 1 {
		return fmt.Errorf("folder %q has a colon in it", path)
	}
	return nil
}

// Check tells why b cannot be a binding, or be passed to appcmd; nil if it can.
func (b Binding) Check() error {
	if !protocolName.MatchString(b.Protocol) {
		return fmt.Errorf("binding %q: protocol %q", b, b.Protocol)
	}
	if err := checkName("binding", b.Information, ` ,'"/\`); err != nil {
		return err
	}
	return nil
}

// CheckSection tells why name cannot be the name of a section, such as system.webServer/proxy.
func CheckSection(name string) error {
	if !sectionName.MatchString(name) {
		return fmt.Errorf("section %q: want words with slashes between them, such as system.webServer/proxy", name)
	}
	return nil
}

func checkName(what, name, forbidden string) error {
	if name == "" {
		return fmt.Errorf("%s without a name", what)
	}
	if err := checkText(name); err != nil {
		return fmt.Errorf("%s %q: %w", what, name, err)
	}
	if i := strings.IndexAny(name, forbidden); i >= 0 {
		return fmt.Errorf("%s %q: %q is not allowed there", what, name, name[i:i+1])
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("%s %q begins or ends with a blank", what, name)
	}
	return nil
}

func checkAttr(name string) error {
	if !attrName.MatchString(name) || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return fmt.Errorf("property %q: want letters, digits and dots", name)
	}
	return nil
}

// checkValue does not tell the value: it may be a secret.
func checkValue(name, value string) error {
	if err := checkText(value); err != nil {
		return fmt.Errorf("value of %q: %w", name, err)
	}
	return nil
}

func checkIndexed(name, value string) error {
	if err := checkValue(name, value); err != nil {
		return err
	}
	if strings.ContainsAny(value, `'"`) {
		return fmt.Errorf("value of %q has a quote in it, which appcmd gives no way to write within [...]: choose a name without one", name)
	}
	return nil
}

// checkText refuses what cannot be handed over unharmed, or what was not understood when it was read.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("not valid UTF-8")
	}
	for _, r := range s {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return fmt.Errorf("a control character or line break (%U)", r)
		case r == utf8.RuneError, undecoded(r):
			return fmt.Errorf("a character that could not be decoded (%U)", r)
		case unicode.Is(unicode.Bidi_Control, r):
			return fmt.Errorf("an invisible character that turns the direction of text (%U)", r)
		}
	}
	return nil
}

// general reports whether name is one of the parameters that all commands have.
func general(name string) bool {
	switch strings.ToLower(name) {
	case "text", "xml", "in", "config", "metadata", "commit", "apphostconfig", "debug":
		return true
	}
	return false
}

// isSecret reports whether what has this name is not to be shown.
func isSecret(name string) bool {
	name = strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	if name == "passanonymoustoken" { // a bool
		return false
	}
	for _, word := range []string{"password", "passwd", "pwd", "secret", "connectionstring", "accesskey", "apikey", "privatekey", "decryptionkey",
		"validationkey", "token"} {
		if strings.HasSuffix(name, word) {
			return true
		}
	}
	return false
}
