package agent

import (
	"maps"
	"testing"

	"tombolo/internal/api"
	"tombolo/internal/babel"
)

// Only who can be dialled is chased, once, and not any more when it is heard or is gone.
func TestWhoFallsSilentIsChased(t *testing.T) {
	c := chase{silent: map[string]bool{}}
	names := map[string]bool{"wg-a": true, "wg-b": true}
	dialled := func(device string) bool { return names[device] }
	down := func(device string) api.Event {
		return api.Event{Kind: string(babel.NeighbourDown), Device: device}
	}
	for _, x := range []struct {
		event api.Event
		more  bool
	}{
		{down("wg-a"), true}, {down("wg-a"), false}, {down("wg-b"), true}, {down("wg-c"), false},
		{api.Event{Kind: LinkDown, Device: "wg-a"}, false},
		{api.Event{Kind: string(babel.NeighbourUp), Device: "wg-a"}, false},
	} {
		if more := c.hear(x.event, dialled); more != x.more {
			t.Errorf("%s %s is one more: %v", x.event.Device, x.event.Kind, more)
		}
	}
	if now := c.devices(); !maps.Equal(now, map[string]bool{"wg-b": true}) || !c.keep(dialled) {
		t.Errorf("%v are chased", now)
	}
	delete(names, "wg-b")
	if c.keep(dialled) || len(c.devices()) > 0 {
		t.Errorf("%v are chased, which nobody dials any more", c.devices())
	}
}
