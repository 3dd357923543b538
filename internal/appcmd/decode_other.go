//go:build !windows

package appcmd

func oemCodePage() uint32 { return 0 }

func systemDecode([]byte, uint32) (string, bool) { return "", false }
