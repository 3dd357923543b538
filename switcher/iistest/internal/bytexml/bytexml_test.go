package bytexml_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

func parse(t *testing.T, text string) *bytexml.Doc {
	t.Helper()
	d, err := bytexml.Parse([]byte(text))
	require.NoError(t, err)
	return d
}

func TestEditsKeepTheRest(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		edit                func(*bytexml.Doc) error
	}{
		{"value in odd quotes", "<a><b  x = 'it' y=\"2\"\t/></a>", "<a><b  x = 'i&apos;t&amp;quot;' y=\"2\"\t/></a>", func(d *bytexml.Doc) error {
			_, err := d.SetAttr(d.Root().Child("b"), "X", `i't&quot;`)
			return err
		}},
		{"new attribute", "<a><b x='1'   /></a>", `<a><b x='1' y="&lt;&amp;&#xA;"   /></a>`, func(d *bytexml.Doc) error {
			_, err := d.SetAttr(d.Root().Child("b"), "y", "<&\n")
			return err
		}},
		{"attribute gone", "<a><b x='1'\n  y='2' z='3'/></a>", "<a><b x='1' z='3'/></a>", func(d *bytexml.Doc) error {
			_, err := d.RemoveAttr(d.Root().Child("b"), "y")
			return err
		}},
		{"child into an empty element", "<a>\r\n\t<b /><!-- c -->\r\n</a>", "<a>\r\n\t<b>\r\n\t\t<n k=\"v\" />\r\n\t</b><!-- c -->\r\n</a>", func(d *bytexml.Doc) error {
			_, err := d.Insert(d.Root().Child("b"), 0, bytexml.Element{Name: "n", Attrs: [][2]string{{"k", "v"}}})
			return err
		}},
		{"last child", "<a>\n  <b/>\n  <!-- c -->\n</a>", "<a>\n  <b/>\n  <n>\n    <m />\n  </n>\n  <!-- c -->\n</a>", func(d *bytexml.Doc) error {
			_, err := d.Insert(d.Root(), 9, bytexml.Element{Name: "n", Children: []bytexml.Element{{Name: "m"}}})
			return err
		}},
		{"first child", "<a>\n  <b/>\n</a>", "<a>\n  <n />\n  <b/>\n</a>", func(d *bytexml.Doc) error {
			_, err := d.Insert(d.Root(), 0, bytexml.Element{Name: "n"})
			return err
		}},
		{"child on one line", "<a><b/></a>", "<a><b/><n /></a>", func(d *bytexml.Doc) error {
			_, err := d.Insert(d.Root(), 1, bytexml.Element{Name: "n"})
			return err
		}},
		{"line gone", "<a>\n  <b>\n  </b>\n  <c/>\n</a>", "<a>\n  <c/>\n</a>", func(d *bytexml.Doc) error {
			_, err := d.Remove(d.Root().Child("b"))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, c.before)
			require.NoError(t, c.edit(d))
			assert.Equal(t, c.after, string(d.Bytes()))
		})
	}
}

func TestWhatIsNotWellFormedIsRefused(t *testing.T) {
	for _, text := range []string{"", "<a>", "<a></b>", "<a/><b/>", "text<a/>", "<a x='1' X='2'/>", "<a x=1/>", "<a><!-- </a>", "<a>&no;</a>"} {
		_, err := bytexml.Parse([]byte(text))
		assert.Error(t, err, "%q", text)
	}
}

func TestAnEditThatWouldSpoilChangesNothing(t *testing.T) {
	d := parse(t, "<a><b/></a>")
	_, err := d.SetAttr(d.Root(), "x", "\x00")
	assert.Error(t, err)
	_, err = d.Remove(d.Root())
	assert.Error(t, err)
	_, err = d.Insert(d.Root(), 0, bytexml.Element{Name: "n x='1"})
	assert.Error(t, err)
	assert.Equal(t, "<a><b/></a>", string(d.Bytes()))
}

// TestRandomDocuments makes documents out of odd pieces, edits one place, and finds every other byte where it was.
func TestRandomDocuments(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"<!-- <x a='1'> -->", "\r\n\t", "  \n", "<![CDATA[ <y/> ]]>", "text &amp; more", "<?pi a=\"b\"?>", "<z q = 'a>b'\n/>", "<w><v/></w >", ""}
	some := func() string {
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	for i := range 500 {
		head, tail := "<?xml version='1.0'?>\r\n<!-- h --><root>"+some()+"<p>"+some(), some()+"</p>"+some()+"</root>\n<!-- t -->"
		target := fmt.Sprintf("<target  k='%d'\tj = \"x\" />", i)
		d := parse(t, head+target+tail)
		find := func() *bytexml.Node { return d.Root().Child("p").Child("target") }

		_, err := d.SetAttr(find(), "j", "é")
		require.NoError(t, err)
		require.Equal(t, head+strings.Replace(target, "\"x\"", "\"é\"", 1)+tail, string(d.Bytes()))

		_, err = d.Insert(find(), 0, bytexml.Element{Name: "n"})
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(d.Bytes(), []byte(head)))
		require.True(t, bytes.HasSuffix(d.Bytes(), []byte(tail)))

		_, err = d.Remove(find())
		require.NoError(t, err)
		trimmed := strings.TrimRight(head, " \t\r\n") // at most the line that the element began goes with it
		require.True(t, strings.HasPrefix(string(d.Bytes()), trimmed))
		require.True(t, bytes.HasSuffix(d.Bytes(), []byte(tail)))
	}
}

func FuzzEdits(f *testing.F) {
	f.Add([]byte("<?xml version=\"1.0\"?><a x='1'><b y=\"2\"/>t<c></c></a>"), "y", "v&<\"'", uint8(1))
	f.Add([]byte("\ufeff<a:b\r\n c:d='1'/>"), "c:d", "", uint8(0))
	f.Add([]byte("<a><b><c/>\n</b></a >"), "n", "\r\n", uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, name, value string, pick uint8) {
		d, err := bytexml.Parse(bytes.Clone(data))
		if err != nil {
			return
		}
		var all []*bytexml.Node
		var walk func(*bytexml.Node)
		walk = func(n *bytexml.Node) {
			all = append(all, n)
			for _, c := range n.Children {
				walk(c)
			}
		}
		walk(d.Root())
		n := all[int(pick)%len(all)]
		raw := bytes.Clone(d.Raw(n))
		at := bytes.Index(data, raw)
		if at < 0 {
			t.Fatalf("%q is not in the document", raw)
		}
		before := bytes.Clone(d.Bytes())
		fresh, err := d.SetAttr(n, name, value)
		if err != nil {
			if !bytes.Equal(before, d.Bytes()) {
				t.Fatal("a failed edit changed the document")
			}
			return
		}
		if got, ok := fresh.Attr(name); !ok || got != value && !strings.ContainsRune(value, '\uFFFD') && value == strings.ToValidUTF8(value, "\uFFFD") {
			t.Fatalf("set %q, read %q", value, got)
		}
		if _, err := d.RemoveAttr(fresh, name); err != nil {
			t.Fatal(err)
		}
	})
}
