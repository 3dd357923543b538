package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/abswap/abswap/switcher/proxy"
)

// Two sites at one door, of which one is switched; then it goes, and its work is waited for.
func ExampleSites() {
	app := func(says string) string {
		return address(httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, says) })))
	}
	sites, err := proxy.NewSites(proxy.SitesConfig{})
	if err != nil {
		panic(err)
	}
	defer sites.Close()
	add := func(blue, green string, hosts ...string) *proxy.Switcher {
		p, err := sites.New(proxy.Config{Slots: map[string]string{"blue": blue, "green": green}, Active: "blue"})
		if err == nil {
			err = sites.Add(p, hosts...)
		}
		if err != nil {
			panic(err)
		}
		return p
	}
	shop := add(app("shop 1"), app("shop 2"), "shop.example", "www.shop.example")
	add(app("blog 1"), app("blog 2"), "*.blog.example")

	show := func() {
		for _, host := range []string{"www.shop.example", "my.blog.example"} { // go sites.Serve(listener) does the same on a port
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = host
			sites.ServeHTTP(w, r)
			fmt.Println(host, w.Code, w.Body)
		}
	}
	show()
	if err := shop.Activate(context.Background(), plain("green")); err != nil {
		panic(err)
	}
	show()

	left, err := sites.Remove("shop.example", "www.shop.example")
	for _, p := range left {
		err = p.Shutdown(context.Background()) // waits until its last request and its last websocket have ended
	}
	fmt.Println(len(left), err)
	// Output:
	// www.shop.example 200 shop 1
	// my.blog.example 200 blog 1
	// www.shop.example 200 shop 2
	// my.blog.example 200 blog 1
	// 1 <nil>
}
