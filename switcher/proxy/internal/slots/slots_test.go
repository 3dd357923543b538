package slots_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// bare is a slot that tells nothing.
type bare string

func (s bare) Name() string              { return string(s) }
func (bare) Ready(context.Context) error { return nil }

// telling is one that tells what it holds.
type telling struct {
	bare
	state abswap.SlotState
	err   error
}

func (s telling) Inspect(context.Context) (abswap.SlotState, error) { return s.state, s.err }

var set = slots.Set{Room: "door", Addrs: map[string]string{"blue": "127.0.0.1:8081", "green": ""}}

func TestConfigMistakesAreAllTold(t *testing.T) {
	errs := slots.CheckConfig(map[string]string{"": "", "a": "127.0.0.1:80", "b": "127.0.0.1:80", "c": ":80", "d": "x:0", "e": "x"}, "f")
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	assert.Equal(t, []string{
		`Config.Slots: a slot has an empty name`,
		`Config.Slots: slots "a" and "b" have the same address "127.0.0.1:80"`,
		`Config.Slots: slot "c": address ":80" has no host`,
		`Config.Slots: slot "d": address "x:0": port "0" is not within 1 to 65535`,
		`Config.Slots: slot "e": address "x" is not host:port: address x: missing port in address`,
		`Config.Active: "f" is not one of the slots`,
	}, texts)
	assert.Len(t, slots.CheckConfig(nil, ""), 1)
	assert.Len(t, slots.CheckConfig(set.Addrs, "green"), 1, "an active slot without an address")
	assert.Empty(t, slots.CheckConfig(set.Addrs, "blue"))
}

func TestUnknownSlotsAreRefused(t *testing.T) {
	require.NoError(t, set.Has(t.Context(), bare("blue")))
	err := set.Has(t.Context(), bare("red"))
	require.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.EqualError(t, err, `door: slot "red" is not in Config.Slots: unknown slot`)
	assert.EqualError(t, set.Has(t.Context(), nil), "door: the slot is nil")
	err = set.CheckWeights([]abswap.Weight{{Slot: bare("red"), Part: 40}, {Slot: bare("pink"), Part: 60}})
	require.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorContains(t, err, `"red"`)
	assert.ErrorContains(t, err, `"pink"`)
	require.Error(t, set.CheckWeights(nil))
	require.NoError(t, set.CheckWeights([]abswap.Weight{{Slot: bare("green"), Part: 100}}))
	assert.Len(t, set.Check([]abswap.Slot{nil, bare("red"), bare("green"), bare("blue"), telling{bare: "green"}}), 3)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, set.Has(gone, bare("red")), context.Canceled)
}

func TestKeyIsWhatTheSlotTells(t *testing.T) {
	began := time.Now()
	k, err := set.Key(t.Context(), bare("blue"))
	require.NoError(t, err)
	assert.Equal(t, route.Key{Slot: "blue", Address: "127.0.0.1:8081"}, k)
	k, err = set.Key(t.Context(), telling{bare: "blue", state: abswap.SlotState{Release: "v2", Address: "127.0.0.1:9", Started: began}})
	require.NoError(t, err)
	assert.Equal(t, route.Key{Slot: "blue", Address: "127.0.0.1:9", Release: "v2", Started: began.Round(0)}, k, "without the monotonic reading, which no file keeps")
	_, err = set.Key(t.Context(), bare("green"))
	require.ErrorContains(t, err, `slot "green" has no address`)
	_, err = set.Key(t.Context(), telling{bare: "green", state: abswap.SlotState{Address: "nowhere"}})
	require.ErrorContains(t, err, `"nowhere" is not host:port`)
	broken := errors.New("broken")
	_, err = set.Key(t.Context(), telling{bare: "green", err: broken})
	require.ErrorIs(t, err, broken)
}

func TestActive(t *testing.T) {
	_, err := slots.Active(nil)
	require.ErrorIs(t, err, abswap.ErrNoActive)
	name, err := slots.Active(map[string]int{"b": 100})
	require.NoError(t, err)
	assert.Equal(t, "b", name)
	name, err = slots.Active(map[string]int{"c": 30, "b": 40, "a": 30})
	require.ErrorIs(t, err, abswap.ErrMixed)
	assert.Equal(t, "b", name)
	for range 20 { // the order of a map is another each time
		name, _ = slots.Active(map[string]int{"c": 50, "b": 50})
		assert.Equal(t, "b", name)
	}
}

func TestTurnIsOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := slots.NewTurn()
		require.NoError(t, turn.Take(t.Context()))
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, turn.Take(short), context.DeadlineExceeded)
		got := make(chan error)
		go func() { got <- turn.Take(t.Context()) }()
		synctest.Wait()
		select {
		case <-got:
			require.Fail(t, "two have it")
		default:
		}
		turn.Give()
		require.NoError(t, <-got)
		turn.Give()
		for range 20 { // a select with two ways open takes either
			require.ErrorIs(t, turn.Take(short), context.DeadlineExceeded, "a context that has ended takes nothing")
		}
		turn.TakeAnyway()
		turn.Give()
	})
}
