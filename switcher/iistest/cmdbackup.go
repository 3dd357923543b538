package iistest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
)

// backup adds, lists, deletes and restores copies of applicationHost.config in a folder of their own.
func (r *run) backup() error {
	home := filepath.Join(r.s.dir, "backup")
	file := func(name string) string { return filepath.Join(home, name, "applicationHost.config") }
	if r.verb == "LIST" {
		return r.listBackups(home)
	}
	name := r.id
	if v, ok := r.param("name", "backup.name"); ok && name == "" {
		name = v
	}
	if name == "" && r.verb == "ADD" {
		name = time.Now().Format("20060102T150405")
	}
	switch {
	case name == "":
		return mustSpecify("BACKUP")
	case name != filepath.Base(name) || strings.ContainsAny(name, `/\:`) || name == "." || name == "..":
		return badValue()
	}
	_, missing := os.Stat(file(name))
	if r.verb != "ADD" && missing != nil {
		return noObject("BACKUP", name)
	}
	switch r.verb {
	case "ADD":
		if missing == nil {
			return duplicate(name)
		}
		data, err := atomicfile.Read(r.s.ConfigPath())
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file(name)), 0o755); err != nil {
			return err
		}
		if err := atomicfile.Write(file(name), data, 0o644); err != nil {
			return err
		}
		r.say("%s object \"%s\" added", "BACKUP", name)
		return nil
	case "DELETE":
		if err := os.RemoveAll(filepath.Dir(file(name))); err != nil {
			return err
		}
		r.say("%s object \"%s\" deleted", "BACKUP", name)
		return nil
	}
	return r.restore(name, file(name))
}

// restore stops the services, puts the file back and starts them again.
func (r *run) restore(name, file string) error {
	data, err := atomicfile.Read(file)
	if err != nil {
		return err
	}
	stop := !strings.EqualFold(r.flags["stop"], "false")
	if stop {
		if err := r.s.StopService(r.ctx); err != nil {
			return errKilled
		}
	}
	err = r.s.EditConfig(func([]byte) ([]byte, error) { return data, nil })
	if stop {
		if again := r.s.StartService(); again != nil && err == nil {
			err = again
		}
	}
	if err != nil {
		return err
	}
	r.say("Restored configuration from backup \"%s\"", name)
	return nil
}

func (r *run) listBackups(home string) error {
	entries, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var all []object
	for _, e := range entries {
		if e.IsDir() && (!r.hasID || strings.EqualFold(e.Name(), r.id)) {
			all = append(all, object{tag: "BACKUP", id: e.Name(), attrs: [][2]string{{"BACKUP.NAME", e.Name()}}})
		}
	}
	return r.list(all, nil, nil)
}
