package proxy

import (
	"net/http"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// checkLimits tells what is wrong with the limits in c.
func (c Config) checkLimits(bad func(format string, args ...any)) {
	for _, x := range []struct {
		name      string
		got, most int
	}{{"MaxHead", c.MaxHead, h1.MaxHead}, {"MaxFields", c.MaxFields, h1.MaxFields}} {
		if x.got < 0 || x.got > x.most {
			bad("Config.%s: %d is not within 0 (the default) to %d", x.name, x.got, x.most)
		}
	}
	for _, x := range []struct {
		name string
		got  int64
	}{{"MaxConns", int64(c.MaxConns)}, {"MaxInFlight", int64(c.MaxInFlight)}, {"QueueBytes", c.QueueBytes}} {
		if x.got < 0 {
			bad("Config.%s: %d is below 0", x.name, x.got)
		}
	}
}

// tooManyFields reports whether a head that net/http has read has more fields than Config.MaxFields lets through.
func (d *door) tooManyFields(h http.Header) bool {
	most := d.cfg.maxFields
	if most == 0 {
		most = h1.MaxFields
	}
	n := 0
	for _, values := range h {
		n += len(values)
	}
	return n > most
}
