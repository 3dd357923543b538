// Package fake is a backend in memory: a Switcher, a Drainer and Slots for the unit tests of deploy tools and for dry runs. It routes and
// counts real work, though none of it leaves the process, and it keeps the rules of package abswap as every other backend does; package
// switchertest checks that.
//
// A test moves it in three ways. Work comes through its front door, Begin and Open. Each method of Switcher and Slot has a field of its
// own (ActivateFunc, ReadyFunc) that scripts what goes wrong; the field's function is given the real thing, so that a call can fail
// before its effect, after it, or half way. And Move and Put change the world as another hand would, without a call. Afterwards Calls
// tells what was asked.
//
// Everything that waits uses package time and channels made where they are waited for, so that it works in a testing/synctest bubble.
package fake
