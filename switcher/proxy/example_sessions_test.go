package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// A user who came before the switch stays with the old version; whoever comes after it gets the new one; a tester saw it before.
func ExampleSessionConfig() {
	app := func(name string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Version", name) }))
	}
	v1, v2 := app("v1"), app("v2")
	defer v1.Close()
	defer v2.Close()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	p, err := proxy.New(proxy.Config{
		Slots:     map[string]string{"blue": strings.TrimPrefix(v1.URL, "http://"), "green": strings.TrimPrefix(v2.URL, "http://")},
		Active:    "blue",
		StateFile: filepath.Join(dir, "state"), // beside it: the sessions, and the key that signs their cookie
		Sessions:  &proxy.SessionConfig{},
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()
	front := httptest.NewServer(p)
	defer front.Close()

	get := func(c *http.Client, look string) string {
		r, _ := http.NewRequest(http.MethodGet, front.URL, nil)
		r.Header.Set("X-Look", look)
		resp, err := c.Do(r)
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		return resp.Header.Get("Version")
	}
	user := func() *http.Client {
		jar, _ := cookiejar.New(nil)
		return &http.Client{Jar: jar}
	}
	ctx, early := context.Background(), user()
	fmt.Println("a user:", get(early, ""))
	if err := p.Preview(ctx, plain("green"), abswap.PreviewRule{Header: "X-Look", Value: "green"}); err != nil {
		panic(err)
	}
	fmt.Println("a tester:", get(user(), "green"))
	if err := p.Activate(ctx, plain("green")); err != nil {
		panic(err)
	}
	fmt.Println("after the switch:", get(early, ""), "and for others", get(user(), ""))
	l, err := p.Sessions(ctx, plain("blue"))
	fmt.Println("left in blue:", l.Sessions, err)
	// Output:
	// a user: v1
	// a tester: v2
	// after the switch: v1 and for others v2
	// left in blue: 1 <nil>
}
