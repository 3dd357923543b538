package evidence_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/abswap/abswap/switcher/evidence"
	"github.com/abswap/abswap/switcher/fake"
)

// An application tells how many requests it is working on.
func ExampleHTTPDrainer() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"requests": 2, "upgraded": 1}`)
	}))
	defer app.Close()
	d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": app.URL + "/in-flight"}}
	load, err := d.InFlight(context.Background(), fake.NewSlot("blue"))
	fmt.Println(load.Requests, load.Upgraded, load.Evidence, err)
	// Output: 2 1 approximate <nil>
}
