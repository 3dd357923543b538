package appcmd

import (
	"unicode/utf16"

	"golang.org/x/sys/windows"
)

var procGetOEMCP = windows.NewLazySystemDLL("kernel32.dll").NewProc("GetOEMCP")

func oemCodePage() uint32 {
	n, _, _ := procGetOEMCP.Call()
	return uint32(n)
}

// systemDecode lets Windows decode b, of a code page that it knows; then of the ANSI code page.
func systemDecode(b []byte, page uint32) (string, bool) {
	const invalidIsError = 8 // MB_ERR_INVALID_CHARS
	for _, p := range []uint32{page, windows.GetACP()} {
		n, err := windows.MultiByteToWideChar(p, invalidIsError, &b[0], int32(len(b)), nil, 0)
		if err != nil || n <= 0 {
			continue
		}
		u := make([]uint16, n)
		if n, err = windows.MultiByteToWideChar(p, invalidIsError, &b[0], int32(len(b)), &u[0], n); err == nil {
			return string(utf16.Decode(u[:n])), true
		}
	}
	return "", false
}
