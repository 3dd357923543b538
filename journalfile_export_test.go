package abswap

import (
	"maps"
	"os"
)

// RaceDetector is raceDetector.
const RaceDetector = raceDetector

// TestDisk is the disk of a FileJournal with failures: each func that is set is called instead of the real thing, which it gets as do.
type TestDisk struct {
	Create   func(path string, line []byte, do func() error) error
	Write    func(line []byte, do func([]byte) (int, error)) (int, error)
	Sync     func(do func() error) error
	Truncate func(path string, size int64, do func() error) error
}

// UseDisk puts d in the place of j's disk.
func (j *FileJournal) UseDisk(d TestDisk) { j.disk = d }

func (d TestDisk) create(path string, line []byte) error {
	do := func() error {
		if d.Sync == nil {
			return disk{}.create(path, line)
		}
		return os.WriteFile(path, line, filePerm) // flushing is scripted, or left out
	}
	if d.Create == nil {
		return do()
	}
	return d.Create(path, line, do)
}

func (d TestDisk) open(path string) (journalFile, error) {
	f, err := disk{}.open(path)
	return testFile{f, d}, err
}

func (d TestDisk) truncate(path string, size int64) error {
	do := func() error { return disk{}.truncate(path, size) }
	if d.Truncate == nil {
		return do()
	}
	return d.Truncate(path, size, do)
}

type testFile struct {
	journalFile
	d TestDisk
}

func (f testFile) Write(line []byte) (int, error) {
	if f.d.Write == nil {
		return f.journalFile.Write(line)
	}
	return f.d.Write(line, f.journalFile.Write)
}

func (f testFile) Sync() error {
	if f.d.Sync == nil {
		return f.journalFile.Sync()
	}
	return f.d.Sync(f.journalFile.Sync)
}

// AddFormat makes j know one more version of the lines, as a later release will; newest is what it writes.
func (j *FileJournal) AddFormat(newest, version int, read func(object []byte) (Record, error)) {
	j.format.newest, j.format.read = newest, maps.Clone(j.format.read)
	j.format.read[version] = read
}

// DecodeRecord reads a line of today's version without its sum.
func DecodeRecord(object []byte) (Record, error) { return decodeRecord(object) }

// ParseJournal reads the content of a swap's file; torn is the number of bytes behind the last whole line.
func ParseJournal(swap string, data []byte) (records []Record, torn int64, err error) {
	t, err := formatOfJournals().parse("file", swap, data)
	return t.records, t.torn, err
}

// FormatJournal makes the content of a swap's file.
func FormatJournal(swap string, records []Record) ([]byte, error) {
	var all []byte
	sum := swap
	for _, r := range records {
		line, next, err := formatOfJournals().encode(sum, r)
		if err != nil {
			return nil, err
		}
		all, sum = append(all, line...), next
	}
	return all, nil
}

// SignLine makes a line of head, which ends before the sum.
func SignLine(before string, head []byte) []byte {
	return append(head[:len(head):len(head)], sumPrefix+sumOf(before, head)+sumEnd+"\n"...)
}
