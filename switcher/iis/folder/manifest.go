package folder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
)

const manifestFormat = 1

// Manifest says what was put into a release's folder. It lies beside the folder, in JSON.
type Manifest struct {
	Format    int       `json:"format"`            // 1
	Name      string    `json:"name"`              // Config.Name
	Release   string    `json:"release"`           // its ID
	Number    int       `json:"number"`            // of the installation: the newest has the highest
	Complete  bool      `json:"complete"`          // false: the copy has begun, Files is empty
	Installed time.Time `json:"installed"`         // when; when it began, if it is not complete
	Source    string    `json:"source"`            // whence it was copied
	Files     []File    `json:"files,omitempty"`   // sorted by path
	Folders   []string  `json:"folders,omitempty"` // slash paths below the folder, sorted; empty ones too
	Sum       string    `json:"sum"`               // SHA-256 of all that stands above, so that a damaged manifest is told
}

// File is one file of a release.
type File struct {
	Path   string `json:"path"` // below the folder, with slashes: "bin/app.dll"
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Bytes is the sum of all files' sizes.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// sum is computed over everything but itself.
func (m *Manifest) sum() string {
	c := *m
	c.Sum = ""
	data, err := json.Marshal(c)
	if err != nil { // only a time beyond the year 9999 cannot be written; check refuses that
		return ""
	}
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// encode returns the manifest as text, sealed with its sum.
func (m *Manifest) encode() ([]byte, error) {
	m.Format, m.Installed = manifestFormat, m.Installed.UTC().Round(0)
	m.Sum = m.sum()
	data, err := json.MarshalIndent(m, "", " ")
	return append(data, '\n'), err
}

// ParseManifest reads a manifest and checks that it is whole: an error wraps ErrManifest.
func ParseManifest(data []byte) (*Manifest, error) {
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something stands behind its end", ErrManifest)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	if m.Format != manifestFormat {
		return fmt.Errorf("its format is %d, this version reads %d", m.Format, manifestFormat)
	}
	if s := m.sum(); s == "" || s != m.Sum {
		return errors.New("its content does not fit its sum")
	}
	var errs []error
	for _, f := range m.Files {
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || f.Size < 0 {
			errs = append(errs, fmt.Errorf("file %q has no right size or hash", f.Path))
		}
		errs = append(errs, checkPath(f.Path))
	}
	for _, d := range m.Folders {
		errs = append(errs, checkPath(d))
	}
	sorted := slices.IsSortedFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) }) && slices.IsSorted(m.Folders)
	if !sorted {
		errs = append(errs, errors.New("it is not sorted"))
	}
	return multi.Join(errs...)
}

// checkPath refuses a slash path that is not one below a folder.
func checkPath(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if err := CheckName(part); err != nil {
			return fmt.Errorf("path %q: %w", path, err)
		}
	}
	return nil
}

// errOther marks a manifest of another Name, which two Names of which one begins like the other can find in each other's place.
var errOther = errors.New("it is another's")

// save writes the manifest to its place.
func (m *Manifest) save(p places) error {
	data, err := m.encode()
	if err != nil {
		return fmt.Errorf("manifest of release %q: %w", p.id, err)
	}
	return atomicfile.Write(p.manifest, data, 0o644)
}

// load reads the manifest of a release; nil if there is none. An error wraps ErrManifest, or is the system's.
func (i *Installer) load(p places) (*Manifest, error) {
	data, err := atomicfile.Read(p.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err == nil && (m.Name != i.cfg.Name || m.Release != p.id) {
		err = fmt.Errorf("%w: %w, release %q of %q", ErrManifest, errOther, m.Release, m.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", p.manifest, err)
	}
	return m, nil
}
