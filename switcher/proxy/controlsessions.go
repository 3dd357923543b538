package proxy

import (
	"context"
	"fmt"
	"net/url"

	"github.com/abswap/abswap"
)

const (
	pathSessions = "/v1/sessions"
	pathPreview  = "/v1/preview"
)

type (
	previewOrder struct {
		Revision uint64        `json:"revision"`
		Slot     wireSlot      `json:"slot"`
		Rules    []wirePreview `json:"rules"`
	}
	wirePreview struct {
		Header string `json:"header,omitempty"`
		Cookie string `json:"cookie,omitempty"`
		Host   string `json:"host,omitempty"`
		Value  string `json:"value,omitempty"`
	}
)

var (
	_ abswap.PreviewingSwitcher = (*Client)(nil)
	_ abswap.SessionDrainer     = (*Client)(nil)
)

func (c *control) sessions(x call) (any, error) {
	slot, err := x.ask("slot")
	if err != nil {
		return nil, err
	}
	load, err := c.s.Sessions(x.ctx, slot)
	return loadAnswer{load}, err
}

func (c *control) preview(x call) (any, error) {
	var o previewOrder
	v, err := x.order(&o, &o.Revision)
	if err != nil {
		return nil, err
	}
	var rules []abswap.PreviewRule
	for _, r := range o.Rules {
		rules = append(rules, abswap.PreviewRule(r))
	}
	if err := c.s.preview(x.ctx, v, o.Slot.slot(), rules...); err != nil {
		return nil, err
	}
	return orderAnswer{v.made}, nil
}

// Sessions counts the live sessions of sl. See Switcher.Sessions.
func (c *Client) Sessions(ctx context.Context, sl abswap.Slot) (abswap.Load, error) {
	name, err := nameOf(ctx, sl)
	if err != nil {
		return abswap.Load{}, err
	}
	var a loadAnswer
	err = c.ask(ctx, pathSessions, url.Values{"slot": {name}}, c.cfg.Timeout, &a)
	return a.Load, err
}

// Preview sends the requests that match one of the rules to sl. See Switcher.Preview, and Client for its errors.
func (c *Client) Preview(ctx context.Context, sl abswap.Slot, rules ...abswap.PreviewRule) error {
	if _, err := nameOf(ctx, sl); err != nil {
		return err
	}
	w := wireSlot{Name: sl.Name()}
	all := []wirePreview{}
	if len(rules) > 0 {
		var err error
		if w, err = describe(ctx, sl); err != nil {
			return fmt.Errorf("proxy: preview: nothing changed: %w", err)
		}
	}
	for _, r := range rules {
		all = append(all, wirePreview(r))
	}
	return c.order(ctx, pathPreview, func(rev uint64) any { return previewOrder{rev, w, all} }, nil)
}

// slotExtras are what status tells of a slot only where there is something to tell.
type slotExtras struct {
	Sessions *abswap.Load `json:"sessions,omitempty"`
	Previews int          `json:"previews,omitempty"` // rules that lead to it
}

func (s *Switcher) extrasOf(ctx context.Context, name string) (x slotExtras) {
	if d := s.guide.Load(); d != nil {
		for _, r := range d.previews {
			if r.slot == name {
				x.Previews++
			}
		}
	}
	if s.sessions != nil {
		if l, err := s.Sessions(ctx, bareSlot(name)); err == nil {
			x.Sessions = &l
		}
	}
	return x
}
