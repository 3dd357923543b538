// Package switchertest checks that a backend keeps the rules written in the doc comments of package abswap. Every backend of this module
// passes it, and whoever writes a Switcher or a Drainer of their own can run it on theirs:
//
//	func TestRules(t *testing.T) {
//		switchertest.Run(t, func(ctx context.Context) (switchertest.Rig, error) {
//			// start two slots and the backend in front of them
//			return switchertest.Rig{Switcher: sw, Blue: blue, Green: green, Probe: ask, Close: stop}, nil
//		})
//	}
//
// A Rig is a backend at work, with the hooks through which the suite sends traffic. Switcher, Blue, Green and Probe are enough to begin
// with; each further hook makes more rules checkable. A rule that needs a hook the Rig lacks, or an ability the backend lacks, is skipped
// by name, and never counted as passed. Where the front door speaks HTTP, App and Site supply all hooks that clients can supply.
//
// Check runs the same rules outside go test: as a doctor command on the machine where the backend will work. Examine gives each rule's
// result, and Rules lists them. Rules that wait use package time, so that a backend in memory can be examined in a testing/synctest
// bubble.
//
// The numbers of the rules: S1 to S6 are those of abswap.Switcher; D1 and D2 those of abswap.Drainer; D3, D4 and W1 are what
// abswap.ForcingDrainer, SessionDrainer and SealingSwitcher promise; D5 is what abswap.ClassDrainer promises; H1 to H11 what abswap.HoldingSwitcher promises.
package switchertest
