// Package abswap deploys web applications so that nobody notices.
//
// Two slots hold two versions of one application. One takes new work, the other is idle. A deploy puts the new version into the idle slot,
// starts and warms it, proves it fit, and then sends all new work there at once, while the old slot lives on until its last request, upload or
// websocket has ended by itself. Then the old one goes idle.
//
// A caller composes three things and lets a Swapper drive them:
//
//   - a Slot says how a version is installed, started, warmed, probed and stopped: package switcher/proxy/process, HTTPSlot, or your own;
//   - a Switcher says where new work goes: package switcher/proxy is one that a Go program embeds;
//   - a Drainer says what is still in flight; most Switchers are one.
//
// All three are small interfaces. What only some can do is an ability (WeightedSwitcher, StoppingSlot, WaitingDrainer), found with As.
//
//	front, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"}, Active: "blue"})
//	// ... serve front on your listener ...
//	s := &abswap.Swapper{Switcher: front, Slots: []abswap.Slot{blue, green}}
//	report, err := s.Deploy(ctx, abswap.Release{ID: "v1085", Path: "/srv/releases/v1085"})
//
// Where all slots serve at the same time, as the machines of a fleet behind load balancers do, a Rolling updates one after the other, over a
// MemberSwitcher.
//
// # Promises
//
// Switch: S1 in force at return; S2 nothing is lost; S3 old work survives; S4 idempotent, and never a third outcome; S5 honest; S6 nothing else
// is touched. Switcher explains them.
//
// Drain: D1 true counts; D2 no guess; D3 the deadline is a policy, not a kill; D4 sessions end where they began, where that is asked for.
//
// Swap: W1 the live slot is never touched before the new one is proven fit, nor stopped while anything may reach it; W2 after every effect the
// engine reads the world back; W3 it rolls back only to a slot probed fit now; W4 the intent is written before its effect, so that after a
// crash the next run finishes; W5 one deploy at a time; W6 the report tells all.
//
// Package switcher/switchertest checks S and D rules against any backend, yours included. The W rules are the engine's; its model test walks
// it through every state with two faults.
//
// # What it does not do
//
// It does not move databases: two versions that work side by side must agree on their data, or be kept apart with Swapper.Exclusive. It
// does not build, copy between machines, or keep secrets. MemoryJournal, which a Swapper without a Journal
// uses, forgets with its process: a tool that may be killed takes OpenJournal.
package abswap
