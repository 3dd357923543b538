package trace

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
)

func sample() *Trace {
	t := &Trace{Name: "a peer", Swaps: []Swap{{'B', 1000, 1500}, {'A', 11000, 11300}, {'B', 21000, 21900}}}
	for i := range 30 {
		at := float64(i) * 1000
		v := byte('A')
		if at >= 1000 && at < 11000 || at >= 21000 {
			v = 'B'
		}
		t.Requests = append(t.Requests, Request{Due: at, Latency: 100 + at/100, Version: v})
	}
	t.Requests[12] = Request{Due: 12000, Version: '-', Failed: "reset"}
	return t
}

func TestATraceIsReadAsItWasWritten(t *testing.T) {
	var b bytes.Buffer
	if err := sample().Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sample(), got) {
		t.Errorf("read %+v", got)
	}
	for _, bad := range []string{"hello\n", "trace x\nswap B 1\n", "trace x\n1 x A\n", "trace x\nfailed\n"} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestSwapsAreLaidOnTopOfEachOther(t *testing.T) {
	bins := sample().Around(2000, 4000, 1000)
	if len(bins) != 6 || bins[0].From != -2000 || bins[5].To != 4000 {
		t.Fatalf("bins %+v", bins)
	}
	if b := bins[0]; b.N != 2 || b.New != 0 || b.Most != 290 { // the first swap has nothing so long before it
		t.Errorf("before: %+v", b)
	}
	if b := bins[2]; b.N != 3 || b.New != 1 || b.P50 != 210 || b.Most != 310 {
		t.Errorf("at the swap: %+v", b)
	}
	if b := bins[3]; b.N != 3 || b.Failed != 1 || b.New != 1 {
		t.Errorf("the failed one: %+v", b)
	}
	if a := sample().AckMedian(); a != 500 {
		t.Errorf("acknowledged after %v", a)
	}
	if e := (&Trace{}).AckMedian(); !math.IsNaN(e) {
		t.Errorf("no swap is acknowledged after %v", e)
	}
	if e := (&Trace{Swaps: []Swap{{'A', 0, 1}}}).Around(0, 10, 10); !math.IsNaN(e[0].P99) {
		t.Errorf("nothing has a latency: %+v", e)
	}
}
