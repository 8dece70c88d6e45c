package state

import (
	"net/netip"

	"tombolo/internal/key"
)

// Clients are the roaming devices that may enter at this router. While one is here, the
// speaker announces it and holds the route to it: such a router has Babel, if with no Links.
type Clients struct {
	Device  string   `json:"device"`            // one of Interfaces
	Port    uint16   `json:"port"`              // on which it listens
	Hold    int      `json:"hold"`              // seconds for which a device counts as here after its last handshake
	Devices []Client `json:"devices,omitempty"` // by name
}

// Client is a roaming device: a peer of Clients.Device with the same name.
type Client struct {
	Name      string         `json:"name"`
	PublicKey key.Public     `json:"publicKey"`
	Addresses []netip.Prefix `json:"addresses"` // its /32 and /128, sorted
}
