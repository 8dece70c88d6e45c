package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tombolo/internal/api"
)

func TestStatusShowsTheClientsThatAreHereAndCountsTheRest(t *testing.T) {
	now := time.Unix(10_000, 0)
	s := &api.Status{Site: "op1", Network: "home", Now: now, Started: now, Clients: []api.Client{
		{Name: "laptop", Site: "op2"},
		{
			Name: "phone", Here: true, Site: "op1", Since: now.Add(-3 * time.Minute), Handshake: now.Add(-70 * time.Second),
			Endpoint: netip.MustParseAddrPort("203.0.113.7:4500"), Received: 12_345, Sent: 999,
		},
		{Name: "pi"},
	}}
	want := `
client  for  handshake       in    out  endpoint
phone    3m        70s  12.3 kB  999 B  203.0.113.7:4500
1 client here, 1 at other sites, 1 not connected
`
	if got := (&app{}).statusText(s); !strings.HasSuffix(got, want) {
		t.Errorf("it shows\n%s", got)
	}
	s.Clients = s.Clients[:1]
	if got := (&app{}).statusText(s); !strings.HasSuffix(got, "\n\n0 clients here, 1 at other sites, 0 not connected\n") {
		t.Errorf("with nobody here it shows\n%s", got)
	}
	s.Clients = nil
	if got := (&app{}).statusText(s); strings.Contains(got, "client") {
		t.Errorf("without clients it shows\n%s", got)
	}
}
