package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheFrontDoorIsAskedDirectly: a CI job often has a proxy in its environment, which knows nothing of this machine's addresses.
func TestTheFrontDoorIsAskedDirectly(t *testing.T) {
	byDefault := http.DefaultTransport.(*http.Transport)
	before := byDefault.Proxy
	byDefault.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("the environment's proxy was asked") }
	defer func() { byDefault.Proxy = before }()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Abswap-Release", "green/v2")
		assert.Equal(t, "www.example.org", r.Host)
		assert.True(t, r.Close)
	}))
	defer front.Close()
	c := defaults()
	c.Listen, c.App.Host = strings.TrimPrefix(front.URL, "http://"), "www.example.org"
	who, err := c.whoServes(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", who)
}
