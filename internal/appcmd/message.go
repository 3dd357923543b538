package appcmd

import (
	"regexp"
	"strconv"
	"strings"
)

// errorLine is how an error begins: ERROR ( hresult:80070020, message:... The word itself is not looked at.
var errorLine = regexp.MustCompile(`(?i)^\s*\pL+\s*\(\s*(?:hresult:\s*(?:0x)?([0-9a-f]{1,8})\s*,\s*)?message:`)

// takeError reads an error from the begin of lines, and returns how many lines it takes; 0: there is none. The message ends with " )" at the
// end of a line; it may have several lines, with parentheses of their own. One that is cut off is returned as far as it goes.
func takeError(lines []string) (m Message, taken int, closed bool) {
	at := errorLine.FindStringSubmatchIndex(lines[0])
	if at == nil {
		return m, 0, false
	}
	if at[2] >= 0 {
		n, _ := strconv.ParseUint(lines[0][at[2]:at[3]], 16, 32)
		m.HResult = uint32(n)
	}
	rest := append([]string{lines[0][at[1]:]}, lines[1:]...)
	end := closing(rest, " )")
	if end < 0 {
		end = closing(rest, ")")
	}
	if end < 0 {
		m.Text = strings.TrimSpace(strings.Join(rest, "\n"))
		return m, len(lines), false
	}
	text := strings.TrimRight(strings.Join(rest[:end+1], "\n"), " \t")
	m.Text = strings.TrimSpace(strings.TrimSuffix(text, ")"))
	return m, end + 1, true
}

// closing finds the first line that ends with mark, or is the parenthesis alone.
func closing(lines []string, mark string) int {
	for i, l := range lines {
		l = strings.TrimRight(l, " \t")
		if strings.HasSuffix(l, mark) || i > 0 && l == ")" {
			return i
		}
	}
	return -1
}

// findMessage looks for an error in output of any form, also behind other text and in output that is cut off or not understood otherwise.
func findMessage(text string) (Message, bool) {
	if lower := strings.ToLower(text); !strings.Contains(lower, "message") && !strings.Contains(lower, "<error") {
		return Message{}, false // one of them is in every error, in every language
	}
	d, err := parse(text)
	switch {
	case d.Error != nil: // what was read before it stopped counts
		return *d.Error, true
	case err == nil:
		return Message{}, false
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		if m, n, _ := takeError(lines[i:]); n > 0 {
			return m, true
		}
	}
	return Message{}, false
}

// parseHResult reads 800710d8, 0x800710D8, -2147020584 or 2147946712; 0 if it is none.
func parseHResult(s string) uint32 {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && (n < 0 || len(s) > 8) {
		return uint32(n)
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(s), "0x"), 16, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
