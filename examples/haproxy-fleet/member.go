package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/abswap/abswap"
)

// member is a node as the tool sees it: a slot whose agent is asked over the network.
type member struct {
	abswap.HTTPSlot // probes the application's /healthz
	agent           string
}

var (
	_ abswap.InstallingSlot = (*member)(nil)
	_ abswap.StartingSlot   = (*member)(nil)
	_ abswap.StoppingSlot   = (*member)(nil)
)

func newMember(n nodeAddress) *member {
	return &member{agent: n.Agent, HTTPSlot: abswap.HTTPSlot{ID: n.Name, URL: "http://" + n.App + "/healthz", Expect: notBroken}}
}

// notBroken refuses an application that says it will never be fit, so that nobody waits for it.
func notBroken(resp *http.Response) error {
	if why := resp.Header.Get(brokenHeader); why != "" {
		return fmt.Errorf("it says that it is broken: %s: %w", why, abswap.ErrPermanent)
	}
	return nil
}

// Install has the agent install r.
func (m *member) Install(ctx context.Context, r abswap.Release) error {
	return m.ask(ctx, http.MethodPost, "/install", r, nil)
}

// Start has the agent start what is installed.
func (m *member) Start(ctx context.Context) error {
	return m.ask(ctx, http.MethodPost, "/start", nil, nil)
}

// Stop has the agent stop the application.
func (m *member) Stop(ctx context.Context) error {
	return m.ask(ctx, http.MethodPost, "/stop", nil, nil)
}

// Inspect asks the agent.
func (m *member) Inspect(ctx context.Context) (abswap.SlotState, error) {
	var s abswap.SlotState
	err := m.ask(ctx, http.MethodGet, "/state", nil, &s)
	return s, err
}

// ask sends one request to the agent.
func (m *member) ask(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+m.agent+path, &body)
	if err != nil {
		return err
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("agent of %s: %w", m.ID, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("agent of %s: %w", m.ID, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("agent of %s: %s: %s: %s", m.ID, path, resp.Status, bytes.TrimSpace(text))
	case out != nil:
		return json.Unmarshal(text, out)
	}
	return nil
}
