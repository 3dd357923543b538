package clients

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// chat is a websocket application by one library.
func chatGorilla(name string) http.HandlerFunc {
	up := gorilla.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, Subprotocols: []string{"chat"}}
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil {
				return
			}
			c.WriteMessage(kind, append([]byte(name+" "), p...))
		}
	}
}

// chatCoder is the same by another.
func chatCoder(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(4 << 20)
		for {
			kind, p, err := c.Read(r.Context())
			if err != nil {
				return
			}
			c.Write(r.Context(), kind, append([]byte(name+" "), p...))
		}
	}
}

// TestWebsockets has each of two clients talk to each of two servers, over a switch.
func TestWebsockets(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		f := serve(t, proxy.Config{Slots: map[string]string{"blue": app(t, chatGorilla("blue")), "green": app(t, chatCoder("green"))}, Active: "blue"}, withTLS)
		url := "ws" + strings.TrimPrefix(f.url, "http")
		tr := &http.Transport{TLSClientConfig: clientTLS(f)}
		defer tr.CloseIdleConnections()
		var talks []func(string) string
		for _, name := range []string{"blue", "green"} {
			require.NoError(t, f.Activate(t.Context(), slot(name)))
			g, _, err := (&gorilla.Dialer{TLSClientConfig: clientTLS(f), Subprotocols: []string{"chat"}}).Dial(url, nil)
			require.NoError(t, err)
			defer g.Close()
			assert.Equal(t, "chat", g.Subprotocol())
			talks = append(talks, func(s string) string {
				require.NoError(t, g.WriteMessage(gorilla.TextMessage, []byte(s)))
				_, p, err := g.ReadMessage()
				require.NoError(t, err)
				return string(p)
			})
			c, _, err := coder.Dial(t.Context(), url, &coder.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{"chat"}})
			require.NoError(t, err)
			defer c.CloseNow()
			c.SetReadLimit(4 << 20)
			talks = append(talks, func(s string) string {
				require.NoError(t, c.Write(context.Background(), coder.MessageText, []byte(s)))
				_, p, err := c.Read(context.Background())
				require.NoError(t, err)
				return string(p)
			})
		}
		long := strings.Repeat("x", 1<<20)
		for i, talk := range talks {
			name := []string{"blue", "blue", "green", "green"}[i]
			assert.Equal(t, name+" hello", talk("hello"))
			assert.Equal(t, len(name)+1+len(long), len(talk(long)), fmt.Sprint(i))
		}
	}
}
