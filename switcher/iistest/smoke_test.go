package iistest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	iistest.Main()
	os.Exit(m.Run())
}

func TestFreshMachine(t *testing.T) {
	srv, err := iistest.New(iistest.Config{})
	require.NoError(t, err)
	out, exit := srv.Appcmd(t.Context(), []string{"list", "site"}, nil)
	assert.Zero(t, exit)
	assert.Equal(t, "SITE \"Default Web Site\" (id:1,bindings:http/*:80:,state:Started)\r\n", string(out))
	assert.NoError(t, srv.Close())
}
