package folder_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// slot is a slot of IIS as far as installing goes: its site's root is pointed at the folder that Install returns.
type slot struct {
	abswap.HTTPSlot
	folders *folder.Installer
	root    string
}

func (s *slot) Install(ctx context.Context, r abswap.Release) error {
	path, err := s.folders.Install(ctx, r)
	if err != nil {
		return fmt.Errorf("slot %q: %w", s.Name(), err)
	}
	s.root = path
	return nil
}

var _ abswap.InstallingSlot = (*slot)(nil)

func ExampleInstaller() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	build, inetpub := filepath.Join(dir, "build"), filepath.Join(dir, "inetpub")
	for _, d := range []string{build, inetpub} {
		if err := os.Mkdir(d, 0o755); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := os.WriteFile(filepath.Join(build, "index.html"), []byte("<p>hello"), 0o644); err != nil {
		fmt.Println(err)
		return
	}

	folders, err := folder.New(folder.Config{Parent: inetpub, Name: "MySite"})
	if err != nil {
		fmt.Println(err)
		return
	}
	green := &slot{HTTPSlot: abswap.HTTPSlot{ID: "green", URL: "http://127.0.0.1:8081/"}, folders: folders}
	ctx := context.Background()
	for _, id := range []string{"v1084", "v1085", "v1086", "v1086"} {
		fmt.Println(id, green.Install(ctx, abswap.Release{ID: id, Path: build}), filepath.Base(green.root))
	}
	live := filepath.Join(inetpub, "MySite.v1084")
	removed, err := folders.Prune(ctx, folder.PruneOptions{Newest: 1, InUse: []string{live, green.root}})
	for _, r := range removed {
		fmt.Println("removed", r.Release)
	}
	fmt.Println(err, folders.Verify(ctx, "v1084"))
	// Output:
	// v1084 <nil> MySite.v1084
	// v1085 <nil> MySite.v1085
	// v1086 <nil> MySite.v1086
	// v1086 <nil> MySite.v1086
	// removed v1085
	// <nil> <nil>
}

func ExampleCheck() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	conf := `<configuration><system.web><httpRuntime executionTimeout="90" /></system.web></configuration>`
	if err := os.WriteFile(filepath.Join(dir, "web.config"), []byte(conf), 0o644); err != nil {
		fmt.Println(err)
		return
	}
	_, err = folder.Check(dir, folder.Limits{})
	fmt.Println(err)
	// Output:
	// warning: web.config: executionTimeout is 1m30s: ASP.NET ends requests that take longer, 10m0s is wanted
}
