package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// SessionConfig says what a session is, and how long it lives. The zero value keeps sessions by a cookie of the proxy's own.
//
// A session stays in the slot where it began, also when that takes no new work any more, until it ends: by not being used for Idle, by its age,
// or by the application's sign. It never moves. Requests without a session, and new sessions, go where new work goes. A Seal of the slot ends
// what is left: such clients begin anew in a live slot, with their next request. So does a new release in the slot, and ForceCut. A session
// whose slot cannot be reached, tried twice, begins anew elsewhere, rather than that the client gets an error.
type SessionConfig struct {
	// Cookie is the name of the proxy's own cookie. It is signed, carries slot, release and a number by chance, and is set in the first
	// answer to a client that has none. "": "abswap-session", unless AppCookie or AppHeader is set.
	Cookie string

	// KeyFile holds the keys that sign Cookie: a line of 64 hexadecimal digits for each, the first one signs, all are known. It is made if it
	// does not exist. "": StateFile + ".keys", and without a StateFile a key that ends with the proxy. See RotateSessionKeys.
	KeyFile string

	Secure    bool // Cookie is for TLS alone; so it should be where clients come by TLS, also if another proxy ends that
	CrossSite bool // Cookie goes along with requests from other sites too (SameSite=None), such as a login's way back by POST; needs Secure

	// AppCookie is the name of the application's own session cookie, and AppHeader of a header field, that names a session instead. Neither
	// is stored as it is. At most one of Cookie, AppCookie and AppHeader is set.
	AppCookie, AppHeader string

	// Over is the name of a cookie by whose clearing the application ends a session. "": AppCookie, if it is set.
	Over string

	Idle time.Duration // a session that is not used for so long, with no request and no websocket under way, has ended; 0: 20m
	Life time.Duration // a session that is so old has ended; 0: 24h, negative: none
	Max  int           // sessions at one time; a client beyond that has none; 0: 1,000,000

	// ARR is for moving off ARR without a logout: which slot was which server of the farm, by the server's address as the farm has it. A
	// client with ARR's affinity cookie, and no session here, begins one there, as long as that release is in that slot. Requires an address
	// in Config.Slots, at which that release runs when the proxy is first started.
	ARR       map[string]SessionHome
	ARRCookie string // the name of that cookie; "": ARRAffinity

	// File keeps the sessions on the disk. It is written Save (0: 2s) after something has begun or ended, and by Close. "": StateFile +
	// ".sessions"; without a StateFile they end with the proxy. After a proxy was killed, what began since the last writing is missing in
	// it: so for one Idle period the number of sessions is not known, and a client with a signed Cookie is believed. A session by AppCookie
	// or AppHeader that is missing then begins anew, in a live slot.
	File string
	Save time.Duration
}

// SessionHome is where a session lives.
type SessionHome struct {
	Slot    string
	Release string // as the slot's Inspect tells it; "": whatever the slot has
}

// checkSessions returns all that is wrong with c.Sessions and what goes with it.
func (c Config) checkSessions() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.StickyWeights != "" {
		if !isToken(c.StickyWeights) {
			bad("Config.StickyWeights: %q cannot be the name of a cookie", c.StickyWeights)
		}
		if c.Sessions != nil {
			bad("Config.StickyWeights and Sessions are both set: a session stays by itself")
		}
	}
	o := c.Sessions
	if o == nil {
		return multi.Join(errs...)
	}
	if n := http.CanonicalHeaderKey(o.AppHeader); n != "" && (hopByHop(n) || n == "Host" || n == "Content-Length" || n == "Cookie" || n == "Expect") {
		bad("Sessions.AppHeader: %q does not name a client", o.AppHeader)
	}
	if o.CrossSite && !o.Secure {
		bad("Sessions.CrossSite needs Secure: browsers drop such a cookie otherwise")
	}
	if (o.Secure || o.CrossSite || o.KeyFile != "") && (o.AppCookie != "" || o.AppHeader != "") {
		bad("Sessions.Secure, CrossSite and KeyFile are about the proxy's own cookie")
	}
	if o.File != "" && c.StateFile == "" {
		bad("Sessions.File needs Config.StateFile: sessions are of no use to a proxy that has forgotten where they live")
	}
	for _, server := range slices.Sorted(maps.Keys(o.ARR)) {
		if home := o.ARR[server]; c.Slots[home.Slot] == "" {
			bad("Sessions.ARR: server %q: slot %q has no address in Config.Slots", server, home.Slot)
		}
	}
	return multi.Join(errs...)
}

// openSessions opens the table of sessions; nil if none are kept. It is called when the state file is locked; first says that there was none.
func openSessions(c Config, first bool) (*session.Table, error) {
	o := c.Sessions
	if o == nil {
		return nil, nil
	}
	x := session.Config{Cookie: o.Cookie, Secure: o.Secure, CrossSite: o.CrossSite, AppCookie: o.AppCookie, AppHeader: http.CanonicalHeaderKey(o.AppHeader),
		Fresh: first, Over: o.Over, Idle: o.Idle, Life: o.Life, Max: o.Max, ARRCookie: o.ARRCookie, File: o.File, Save: o.Save, ARR: map[string]session.Generation{}}
	for server, home := range o.ARR {
		x.ARR[server] = session.Generation(home)
	}
	if x.Cookie == "" && x.AppCookie == "" && x.AppHeader == "" {
		x.Cookie = "abswap-session"
	}
	keyFile := o.KeyFile
	if c.StateFile != "" {
		if x.File == "" {
			x.File = c.StateFile + ".sessions"
		}
		if keyFile == "" {
			keyFile = c.StateFile + ".keys"
		}
	}
	if x.Cookie != "" {
		var err error
		if x.Keys, err = sessionKeys(keyFile); err != nil {
			return nil, err
		}
		x.Fresh = x.Fresh || keyFile == "" // no cookie of an earlier proxy is known here
	}
	return session.Open(x)
}

func sessionKeys(file string) (*session.Keys, error) {
	if file != "" {
		return session.LoadKeys(file)
	}
	key := make([]byte, 32)
	rand.Read(key)
	return session.NewKeys(key)
}

// RotateSessionKeys reads the key file again and puts its keys in force: cookies are signed with the first one from now on, those signed with any
// of the others are still known. So a key is retired by putting a new one before it, and dropping it when no session can be as old as that.
// Where the file cannot be used, or is not there, nothing changes.
func (s *Switcher) RotateSessionKeys() error {
	if s.sessions == nil {
		return fmt.Errorf("proxy: Config.Sessions is nil: there are no keys: %w", errors.ErrUnsupported)
	}
	file := s.cfg.Sessions.KeyFile
	if file == "" && s.cfg.StateFile != "" {
		file = s.cfg.StateFile + ".keys"
	}
	if file == "" {
		return fmt.Errorf("proxy: there is no key file: %w", errors.ErrUnsupported)
	}
	k, err := session.ReadKeys(file)
	if err == nil {
		err = s.sessions.Rotate(k)
	}
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return nil
}

// Sessions counts the live sessions of sl (promise D4); requests and upgraded connections it leaves at 0. The count is exact, and once sl takes no
// new work it only falls, except by what a request begins that is in flight there. After an end of the proxy that was none of Close it is unknown
// for one SessionConfig.Idle: then all sessions that the disk lacks have been used again, or have ended. A sealed slot has none. Without
// Config.Sessions the error is errors.ErrUnsupported.
func (s *Switcher) Sessions(ctx context.Context, sl abswap.Slot) (abswap.Load, error) {
	if err := s.slots.Has(ctx, sl); err != nil {
		return abswap.Load{}, err
	}
	if s.sessions == nil {
		return abswap.Load{}, fmt.Errorf("proxy: Config.Sessions is nil: slot %q's sessions are not kept: %w", sl.Name(), errors.ErrUnsupported)
	}
	load := abswap.Load{Evidence: abswap.EvidenceExact, Source: "proxy's table of sessions"}
	if s.table.Sealed(sl.Name()) {
		s.endSessions(sl.Name()) // what entered before the seal may have begun one since
		return load, nil
	}
	if !s.sessions.Known() { // asked first: from then on nothing is missing
		load.Evidence, load.Source = abswap.EvidenceUnknown, "proxy's table of sessions, in which some are missing since the proxy was killed"
	}
	for g, n := range s.sessions.Generations() {
		if g.Slot == sl.Name() {
			load.Sessions += n
		}
	}
	return load, nil
}

// settle puts into st, of a proxy that is started for the first time, what Sessions.ARR says of slots.
func (st *state) settle(c Config) {
	if c.Sessions == nil {
		return
	}
	for _, home := range c.Sessions.ARR {
		i, found := slices.BinarySearchFunc(st.Slots, home.Slot, func(s slotState, name string) int { return strings.Compare(s.Name, name) })
		if !found {
			st.Slots = slices.Insert(st.Slots, i, slotState{Name: home.Slot, Address: c.Slots[home.Slot]})
		}
		if home.Release != "" {
			st.Slots[i].Release = home.Release
		}
	}
}

// endSessions ends all sessions of the slot.
func (s *Switcher) endSessions(slot string) {
	for g := range s.sessions.Generations() {
		if g.Slot == slot {
			s.sessions.EndAll(g)
		}
	}
}

// endLost ends the sessions to whose generation nothing leads any more: their clients begin anew, whatever the table says.
func (s *Switcher) endLost() {
	if s.sessions == nil {
		return
	}
	for g := range s.sessions.Generations() {
		if !s.table.Has(g.Slot) || s.table.Sealed(g.Slot) || g.Release != "" && g.Release != s.last(g.Slot).Release {
			s.sessions.EndAll(g)
		}
	}
}

// cutSessions ends those of a slot that is to be cut, if it takes no new work.
func (s *Switcher) cutSessions(slot string) {
	if s.sessions != nil && s.table.LetGo(slot) {
		s.endSessions(slot)
	}
}

// checkSwap finds what a swap asks for that goes ill with sessions.
func (s *Switcher) checkSwap(r abswap.CheckRequest) (errs []error) {
	switch {
	case s.sessions == nil && r.Drain.Sessions:
		errs = append(errs, fmt.Errorf("proxy: Config.Sessions is nil, so Drain.Sessions cannot be kept: %w", errors.ErrUnsupported))
	case s.sessions == nil:
	case r.Exclusive:
		errs = append(errs, fmt.Errorf("proxy: Exclusive keeps two versions from working at the same time, and Config.Sessions keeps the old one at "+
			"work for its sessions: %w", errors.ErrUnsupported))
	case !r.Drain.Sessions && r.Stops:
		errs = append(errs, abswap.Warnf("proxy: sessions are kept, but the drain does not wait for them: they end when the old slot is stopped; "+
			"set Drain.Sessions"))
	}
	if s.sessions != nil && s.cfg.StateFile == "" {
		errs = append(errs, abswap.Warnf("proxy: Config.StateFile is empty: sessions end with the proxy, and their number is unknown for one Idle "+
			"period after its start"))
	}
	return errs
}

// guide says where requests want to go. Where none of it is asked for there is no guide. A value is never changed.
type guide struct {
	s        *Switcher
	sessions *session.Table
	sticky   string // name of the cookie; "": weights do not stick
	previews []previewRule
}

// steer puts a guide with these rules in force.
func (s *Switcher) steer(rules []previewRule) {
	if s.sessions == nil && s.cfg.StickyWeights == "" && len(rules) == 0 {
		s.guide.Store(nil)
		return
	}
	s.guide.Store(&guide{s, s.sessions, s.cfg.StickyWeights, rules})
}

// aim says where the request wants to go.
func (d *guide) aim(g guest) {
	w := &g.Work().Wish
	if len(d.previews) > 0 {
		if slot := d.preview(g); slot != "" {
			*w = route.Wish{Kind: route.Preview, Slot: slot}
			return
		}
	}
	switch {
	case d.sessions != nil:
		if to := g.Visit().Open(d.sessions, g); to != (session.Generation{}) {
			*w = route.Wish{Kind: route.Session, Slot: to.Slot, Release: to.Release}
		}
	case d.sticky != "":
		session.Cookies(g, d.sticky, func(value string) bool {
			for _, p := range d.s.table.Parts() {
				if p.Gen.Target.Stick == value {
					*w = route.Wish{Kind: route.Stay, Slot: p.Gen.Key.Slot, Release: p.Gen.Key.Release}
					return false
				}
			}
			return true
		})
	}
}

// counted is the function counted for a site with sessions or a cookie that makes clients stay. The request leaves its session before it leaves
// the count: at zero nothing of it is left anywhere.
func (d *guide) counted(g guest, work *entry, gen *generation, fresh bool) (h1.Ending, error) {
	defer work.Leave()
	switch {
	case d.sessions != nil:
		v := g.Visit()
		v.Enter(session.Generation{Slot: gen.Key.Slot, Release: gen.Key.Release})
		defer v.Leave()
	case d.sticky != "":
		g.SetCookie(d.stick(work, gen))
	}
	return g.Attempt(gen, fresh)
}

// ARRValue is the value that ARR's affinity cookie has for a server of a farm: the hash of its address as it stands in the farm's configuration.
func ARRValue(server string) string { return session.ARRValue(server) }
