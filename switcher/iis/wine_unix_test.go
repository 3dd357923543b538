//go:build unix

package iis_test

func underWine() bool { return false }
