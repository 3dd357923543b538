//go:build !windows

package process

func sameVariable(a, b string) bool { return a == b }
