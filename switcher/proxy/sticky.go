package proxy

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// stickOf is the value of the cookie by which weights stick to a client: it names slot and release without telling them.
func stickOf(k route.Key) string {
	sum := sha256.Sum256([]byte(k.Slot + "\x00" + k.Release))
	return hex.EncodeToString(sum[:8])
}

// stick returns the Set-Cookie field for a client that has been given gen; "" if it has it already, or there is nothing to share out.
func (d *guide) stick(work *entry, gen *generation) string {
	if w := &work.Wish; w.Kind != route.NoWish && (w.Kind != route.Stay || w.Slot == gen.Key.Slot && w.Release == gen.Key.Release) {
		return ""
	}
	if len(d.s.table.Parts()) < 2 {
		return ""
	}
	return d.sticky + "=" + gen.Target.Stick + "; Path=/; HttpOnly; SameSite=Lax"
}
