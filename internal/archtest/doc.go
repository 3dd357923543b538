// Package archtest holds the repository to its own shape: which room may import which, and what the module requires. It has tests only.
package archtest
