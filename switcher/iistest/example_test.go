package iistest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/abswap/abswap/switcher/iistest"
)

// A deploy by hand: the site's root gets another folder, and the next request finds the release in it.
func Example() {
	ctx := context.Background()
	srv, err := iistest.New(iistest.Config{
		Scale: 0.01, // emulated seconds last 10 ms
		Host: func(folder string) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, filepath.Base(folder)) }), nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = srv.Close() }()
	client := srv.Client()
	get := func() {
		answer, err := client.Get("http://www.example.test/")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		fmt.Println(string(body), err)
	}
	get()
	out, exit := srv.Appcmd(ctx, []string{"set", "vdir", "Default Web Site/", `/physicalPath:C:\inetpub\MySite.v1085`}, nil)
	fmt.Printf("%s, exit %d\n", bytes.TrimSpace(out), exit)
	if err := srv.Settle(ctx); err != nil {
		fmt.Println(err)
	}
	get()
	// Output:
	// wwwroot <nil>
	// VDIR object "Default Web Site/" changed, exit 0
	// MySite.v1085 <nil>
}
