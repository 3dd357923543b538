package iistest

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
)

// files serves the files of a folder, as the static file module does; web.config and binaries are hidden.
func files(folder string) (http.Handler, error) {
	if info, err := os.Stat(folder); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%q is not a folder", folder)
	}
	serve := http.FileServer(http.Dir(folder))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o, ok := From(r.Context()); ok && o.Application != "/" {
			r.URL.Path = "/" + strings.TrimPrefix(r.URL.Path[len(o.Application):], "/")
		}
		clean := strings.ToLower(path.Clean("/" + r.URL.Path))
		if path.Base(clean) == "web.config" || strings.HasPrefix(clean, "/bin/") {
			http.NotFound(w, r)
			return
		}
		serve.ServeHTTP(w, r)
	}), nil
}
