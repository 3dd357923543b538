package proxy_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// fill adds n sites in front of one application; the last one is site.test.
func (m *many) fill(t testing.TB, n int, app string) {
	for i := range n {
		host := fmt.Sprintf("site%d.test", i)
		if i == n-1 {
			host = "site.test"
		}
		m.site(t, app, "127.0.0.1:1", host)
	}
}

// TestNothingIsAllocatedForAGETOfASite is TestNothingIsAllocatedForAGET, among a thousand sites, by name and by wildcard.
func TestNothingIsAllocatedForAGETOfASite(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	if runtime.GOOS != "linux" {
		t.Skip("connections are read by their own methods here")
	}
	for _, wild := range []bool{false, true} {
		m := serveSites(t, proxy.SitesConfig{})
		app := plainBackend(t)
		m.fill(t, 1000, app)
		if wild {
			_, err := m.Remove("site.test")
			require.NoError(t, err)
			m.site(t, app, "127.0.0.1:1", "*.test")
		}
		g := newGetter(t, m.addr)
		least := 1e9
		for range 5 { // a collection empties the pools once
			least = min(least, testing.AllocsPerRun(1000, func() { g.get(t) }))
		}
		require.Zero(t, least)
	}
}

// TestASiteIsSmall holds ten thousand sites against what one may take, and the time to add them against what only a cost that grows with their
// number could reach.
func TestASiteIsSmall(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's own memory counts too")
	}
	const n = 10_000
	m := serveSites(t, proxy.SitesConfig{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := time.Now()
	m.fill(t, n, "127.0.0.1:9")
	took := time.Since(begun)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d bytes each, all in %s", each, took.Round(time.Millisecond))
	require.Less(t, each, int64(4<<10))
	require.Less(t, took, patience)
	runtime.KeepAlive(m)
}

// BenchmarkSites is one proxied GET on a kept connection, among so many sites.
func BenchmarkSites(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := serveSites(b, proxy.SitesConfig{})
			m.fill(b, n, plainBackend(b))
			g := newGetter(b, m.addr)
			b.ReportAllocs()
			for b.Loop() {
				g.get(b)
			}
		})
	}
}

// BenchmarkSiteLookup finds sites by their hosts, each time another one.
func BenchmarkSiteLookup(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := serveSites(b, proxy.SitesConfig{})
			m.fill(b, n, "127.0.0.1:9")
			hosts := make([]string, n)
			for i := range hosts {
				hosts[i] = fmt.Sprintf("site%d.test", i)
			}
			hosts[n-1] = "site.test"
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := m.Lookup(hosts[i%n]); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}
