package folder

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What is put behind the name of a release's folder. No release ID holds a tilde.
const (
	suffixPart     = "~part"          // a copy that is not complete
	suffixGone     = "~gone"          // a folder that is being removed
	suffixManifest = "~manifest.json" // what is in the folder
	suffixLock     = "~lock"          // behind Config.Name alone
)

// maxFolderPath is what Windows allows for a folder's path where long paths are not enabled, in UTF-16 units.
const maxFolderPath = 247

// CheckName returns an error if name cannot be the name of a file or a folder on Windows as well as on other systems: empty, too long,
// reserved (CON, nul.txt, COM1), with a separator or a sign that Windows refuses, or with a dot or a blank at its end, which Windows drops.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("%q is not the name of a file", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case units(name) > 255 || len(name) > 255:
		return fmt.Errorf("name %q is longer than 255 characters", name)
	}
	for _, c := range name {
		if c < ' ' || c == 0x7f || strings.ContainsRune(`<>:"/\|?*`, c) {
			return fmt.Errorf("name %q: Windows allows no %q in a name", name, c)
		}
	}
	if last := name[len(name)-1]; last == '.' || last == ' ' {
		return fmt.Errorf("name %q: Windows drops a dot or a blank at the end", name)
	}
	if reserved(name) {
		return fmt.Errorf("name %q is reserved for a device on Windows", name)
	}
	return nil
}

// reserved tells whether Windows, some version of it, takes name for a device's, whatever stands behind the first dot or colon.
func reserved(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$":
		return true
	}
	if port, ok := strings.CutPrefix(stem, "COM"); ok {
		return portDigit(port)
	}
	port, ok := strings.CutPrefix(stem, "LPT")
	return ok && portDigit(port)
}

func portDigit(s string) bool {
	switch s {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}

// units is the length of s as Windows counts it.
func units(s string) int {
	n := 0
	for _, c := range s {
		n += max(utf16.RuneLen(c), 1)
	}
	return n
}

// fold makes names equal that differ only in case.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// places are the paths that belong to one release.
type places struct {
	id                           string
	folder, part, gone, manifest string
}

func (i *Installer) places(id string) places {
	f := filepath.Join(i.cfg.Parent, i.cfg.Name+"."+id)
	return places{id: id, folder: f, part: f + suffixPart, gone: f + suffixGone, manifest: f + suffixManifest}
}

// check refuses an ID whose folder could not be made.
func (p places) check() error {
	if err := CheckName(p.id); err != nil {
		return fmt.Errorf("release %q: its ID cannot be part of a folder's name: %w", p.id, err)
	}
	if err := CheckName(filepath.Base(p.manifest)); err != nil {
		return fmt.Errorf("release %q: %w", p.id, err)
	}
	if n := units(p.folder + suffixPart); n > maxFolderPath {
		return fmt.Errorf("release %q: the path of its folder, %q, has %d characters while it is being made, Windows allows %d: "+
			"use a shorter ID or Parent", p.id, p.folder, n, maxFolderPath)
	}
	return nil
}
