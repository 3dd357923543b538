package multi_test

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/internal/multi"
)

func TestJoinOfNothingIsPlainNil(t *testing.T) {
	assert.True(t, multi.Join() == nil)
	assert.True(t, multi.Join(nil, nil) == nil)
}

func TestJoinOfOneIsThatOne(t *testing.T) {
	assert.True(t, multi.Join(nil, io.EOF) == io.EOF)
}

func TestJoinPrintsOneLineAndKeepsEach(t *testing.T) {
	first := multi.Join(io.EOF, fs.ErrExist)
	err := multi.Join(first, errors.New("third"))
	assert.Equal(t, "EOF; file already exists; third", err.Error())
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, err, fs.ErrExist)
	assert.Len(t, multi.All(err), 3)
	assert.Equal(t, "EOF; file already exists", first.Error(), "joining again leaves the first as it was")
	assert.Equal(t, []error{io.EOF}, multi.All(io.EOF))
	assert.Nil(t, multi.All(nil))
}
