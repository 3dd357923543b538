package fake

import "github.com/abswap/abswap"

// Bare returns sw without its abilities: only Active and Activate are left, and abswap.As finds nothing more. To leave one ability, embed
// its interface: struct{ abswap.WeightedSwitcher }{sw}.
func Bare(sw abswap.Switcher) abswap.Switcher { return bareSwitcher{sw} }

// BareDrainer returns d without its abilities: only InFlight is left.
func BareDrainer(d abswap.Drainer) abswap.Drainer { return bareDrainer{d} }

// BareSlot returns s without its abilities: only Name and Ready are left.
func BareSlot(s abswap.Slot) abswap.Slot { return bareSlot{s} }

type (
	bareSwitcher struct{ abswap.Switcher }
	bareDrainer  struct{ abswap.Drainer }
	bareSlot     struct{ abswap.Slot }
)
