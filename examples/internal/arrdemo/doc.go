// Package arrdemo is what the ARR examples have in common and what is not their subject: an emulated machine with a server farm to try them on. A
// reader who copies an example leaves it behind.
package arrdemo
