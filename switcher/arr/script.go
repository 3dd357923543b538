package arr

import (
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"unicode/utf16"
)

// script is what PowerShell is given: see its own comment for the protocol.
//
//go:embed script.ps1
var script string

// arguments make PowerShell run the script: encoded, so that no execution policy, no file and no quoting comes in between.
func arguments() []string {
	units := utf16.Encode([]rune(script))
	raw := make([]byte, 0, 2*len(units))
	for _, u := range units {
		raw = binary.LittleEndian.AppendUint16(raw, u)
	}
	return []string{"-NoLogo", "-NoProfile", "-NonInteractive", "-InputFormat", "None", "-OutputFormat", "Text", "-EncodedCommand",
		base64.StdEncoding.EncodeToString(raw)}
}
