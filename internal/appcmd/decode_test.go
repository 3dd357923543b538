package appcmd_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		bytes string
		page  uint32
		want  string
	}{
		{"plain\r\nlines\r\r\nand\rmore\r", 0, "plain\nlines\nand\nmore\n"},
		{"\xEF\xBB\xBFmark", 0, "mark"},
		{"\xD1\x81\xD0\xB0\xD0\xB9\xD1\x82", 866, "сайт"},
		{"\xE1\xA0\xA9\xE2", 866, "сайт"},
		{"\xF1\xE0\xE9\xF2", 1251, "сайт"},
		{"Gr\x81\xE1e", 850, "Grüße"},
		{"Gr\x81\xE1e", 437, "Grüße"},
		{"Gr\xFC\xDFe \x80", 1252, "Grüße €"},
		{"\x9F\x8Dka", 852, "čŹka"},
		{"a\x81b", 1252, "a\uF781b"},
		{"\xFF\xFEA\x00\r\x00\n\x00=\xD8\x00\xDE", 0, "A\n😀"},
		{"\xFE\xFF\x00A\x00B", 0, "AB"},
		{"\xFF\xFEA", 0, ""},
		{"", 0, ""},
	} {
		assert.Equal(t, c.want, appcmd.Decode([]byte(c.bytes), c.page), "%q in %d", c.bytes, c.page)
	}
}

// Names whose bytes mean nothing stay different, and cannot be sent back.
func TestUndecodedBytesAreHarmless(t *testing.T) {
	seen := map[string]int{}
	for b := 0x80; b <= 0xFF; b++ {
		for _, page := range []uint32{437, 850, 852, 866, 1251, 1252} {
			one := appcmd.Decode([]byte{'a', byte(b), '('}, page)
			assert.True(t, utf8.ValidString(one))
			assert.Equal(t, 3, utf8.RuneCountInString(one), "page %d, byte %x", page, b)
			if b >= 0x80 && one == appcmd.Decode([]byte{'a', byte(b ^ 1), '('}, page) {
				t.Errorf("page %d: bytes %x and %x are the same", page, b, b^1)
			}
		}
		text := appcmd.Decode([]byte{'a', byte(b)}, 64999) // no such code page
		if other, ok := seen[text]; ok {
			t.Errorf("bytes %x and %x are the same", b, other)
		}
		seen[text] = b
	}
	private := appcmd.Decode([]byte("a\x81"), 1252)
	assert.Error(t, appcmd.CheckSiteName(private))
	assert.Error(t, appcmd.CheckPoolName(private))
	assert.NoError(t, appcmd.CheckSiteName(appcmd.Decode([]byte("Gr\x81\xE1e"), 850)))
}

// An error in the machine's own code page is told by its numbers all the same.
func TestLocalisedErrorInItsCodePage(t *testing.T) {
	raw := "ERROR ( hresult:800706be, message:\x91\xA1\xAE\xA9 \xAF\xE0\xA8 \xE3\xA4\xA0\xAB\xA5\xAD\xAD\xAE\xAC \xA2\xEB\xA7\xAE\xA2\xA5. )\r\n"
	for page, want := range map[uint32]string{866: "Сбой при удаленном вызове.", 64999: ""} {
		err := appcmd.Judge(appcmd.ListWPs(""), appcmd.Decode([]byte(raw), page), 1726)
		require.ErrorIs(t, err, appcmd.Transient)
		assert.Contains(t, err.Error(), want)
	}
}
