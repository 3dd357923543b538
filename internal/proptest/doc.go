// Package proptest holds tests that state what must be true of any input, and let a machine look for one of which it is not. It is a module
// of its own, so that its library does not come to those who use abswap.
package proptest
