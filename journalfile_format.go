package abswap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// journalFormat knows the versions of a journal's lines: all that were ever written are read, the newest is written. Each line says its own
// version, so a swap begun by an older program may be ended by a newer one.
type journalFormat struct {
	newest int
	read   map[int]func(object []byte) (Record, error) // from a line's JSON without its sum
}

// formatOfJournals is the one place where versions are listed. A change of Record that older programs would misread, which a new field is
// too, is a new version here, with a function that makes today's Record of yesterday's line.
func formatOfJournals() journalFormat {
	return journalFormat{newest: 1, read: map[int]func([]byte) (Record, error){1: decodeRecord}}
}

// decodeRecord reads a line whose fields are those of Record now. A field that it does not know is refused: it might say what matters.
func decodeRecord(object []byte) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Record{}, errors.New("more than one value in a line")
	}
	return r, nil
}

const (
	sumDigits = 16
	sumPrefix = `,"sum":"`
	sumEnd    = `"}`
)

// sumOf chains head, a line up to its sum, to the sum of the line before.
func sumOf(before string, head []byte) string {
	h := sha256.New()
	io.WriteString(h, before+"\n")
	h.Write(head)
	return hex.EncodeToString(h.Sum(nil))[:sumDigits]
}

// encode makes the line of r, with its end, and its sum. before is the sum of the line before, or the swap's ID.
func (f journalFormat) encode(before string, r Record) (line []byte, sum string, err error) {
	r.Version = f.newest
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it
	if err := e.Encode(r); err != nil {
		return nil, "", err
	}
	head := bytes.TrimSuffix(b.Bytes(), []byte("}\n"))
	sum = sumOf(before, head)
	return slices.Concat(head, []byte(sumPrefix+sum+sumEnd+"\n")), sum, nil
}

// decode reads a line without its end.
func (f journalFormat) decode(before string, line []byte) (r Record, sum string, err error) {
	head, sum, signed := cutSum(line)
	signed = signed && sum == sumOf(before, head)
	var v struct {
		V int `json:"v"`
	}
	known := json.Unmarshal(line, &v) == nil && f.read[v.V] != nil
	switch {
	case signed && !known, v.V > f.newest:
		return Record{}, "", fmt.Errorf("it has version %d of the format, and this program knows %s: use the program that wrote it, or a newer one", v.V, f.versions())
	case !signed:
		return Record{}, "", errors.New("its sum does not fit: it was changed, or a line before it is missing; " + damagedAdvice)
	}
	if r, err = f.read[v.V](append(slices.Clone(head), '}')); err != nil {
		return Record{}, "", fmt.Errorf("%w; "+damagedAdvice, err)
	}
	return r, sum, nil
}

const damagedAdvice = "see which slot serves, put right by hand what this swap left undone, then move the file out of the folder"

// versions names what can be read: "version 1", "versions 1 to 3".
func (f journalFormat) versions() string {
	oldest := slices.Min(slices.Collect(maps.Keys(f.read)))
	if oldest == f.newest {
		return fmt.Sprintf("version %d", f.newest)
	}
	return fmt.Sprintf("versions %d to %d", oldest, f.newest)
}

// cutSum takes a line apart.
func cutSum(line []byte) (head []byte, sum string, ok bool) {
	n := len(line) - len(sumPrefix) - sumDigits - len(sumEnd)
	if n < 0 || !bytes.HasPrefix(line[n:], []byte(sumPrefix)) || !bytes.HasSuffix(line, []byte(sumEnd)) {
		return nil, "", false
	}
	return line[:n], string(line[n+len(sumPrefix):][:sumDigits]), true
}

// journalText is what the file of one swap holds.
type journalText struct {
	records []Record
	whole   int64  // bytes of whole lines
	torn    int64  // bytes after them: a line that was not written to its end
	sum     string // of the last whole line
}

// lacksBlocks tells whether blocks of line, which is the last one, never reached the disk: there are zeros then. If they come right behind a
// whole line, they stand where its end was, and two lines were made one.
func (f journalFormat) lacksBlocks(before string, line []byte) bool {
	head, _, zeros := bytes.Cut(line, []byte{0})
	_, _, err := f.decode(before, head)
	return zeros && err != nil
}

// parse reads the file of a swap. The last line may be torn: it has no end, or lacks blocks.
func (f journalFormat) parse(path, swap string, data []byte) (journalText, error) {
	t := journalText{sum: swap}
	for rest := data; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if !ended {
			break
		}
		r, sum, err := f.decode(t.sum, line)
		n := len(t.records) + 1
		if err == nil && (r.Seq != n || r.Swap != swap) {
			err = fmt.Errorf("it is record %d of swap %q; "+damagedAdvice, r.Seq, r.Swap)
		}
		if err != nil {
			if len(after) == 0 && f.lacksBlocks(t.sum, line) {
				break
			}
			return journalText{}, &JournalError{Path: path, Line: n, Err: err}
		}
		t.records, t.sum = append(t.records, r), sum
		t.whole += int64(len(line)) + 1
		rest = after
	}
	t.torn = int64(len(data)) - t.whole
	if len(t.records) == 0 {
		return journalText{}, &JournalError{Path: path, Line: 1, Err: errors.New("the file has no whole line, though a swap's file is made with its first one; " + damagedAdvice)}
	}
	return t, nil
}
