//go:build unix

package arr_test

func underWine() bool { return false }
