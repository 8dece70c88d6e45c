package compile_test

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// devicesAt returns the host prefixes of the devices that may enter at a router.
func devicesAt(r state.Router) []netip.Prefix {
	var out []netip.Prefix
	if r.Clients != nil {
		for _, d := range r.Clients.Devices {
			out = append(out, d.Addresses...)
		}
	}
	return out
}

// A device that enters at any door is reached from every site, and answers: wherever the
// speakers of the doors hear each other, and else at the home of the pool.
func TestDevicesAreReachedFromEverySite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, ds := spec.Parse("network.yaml", []byte(randomNetwork(t)))
		if n == nil {
			t.Fatalf("the generator made a bad file: %v", ds)
		}
		if n.Clients == nil {
			return
		}
		home := n.Home()
		doors := []int{home}
		if n.Sites[home].Routing == spec.Babel {
			for _, i := range heard(n, home) {
				if slices.Contains(n.Clients.At, n.Sites[i].Name) {
					doors = append(doors, i)
				}
			}
		}
		phone := n.Clients.Devices[0]
		for _, door := range doors {
			f := newFabric(t, n, map[netip.Addr]int{phone.Address: door, phone.Address6: door})
			for b := range n.Sites {
				if b == door {
					continue
				}
				for _, pair := range [][2]netip.Addr{{phone.Address, lanHost(n, b)}, {phone.Address, n.Sites[b].Address}, {phone.Address6, n.Sites[b].Address6}} {
					there, err := f.walk(door, pair[0], pair[1])
					if err != nil {
						t.Fatalf("from %s to %s: %v", pair[0], pair[1], err)
					}
					back, err := f.walk(b, pair[1], pair[0])
					if err != nil {
						t.Fatalf("back from %s to %s: %v", pair[1], pair[0], err)
					}
					slices.Reverse(back)
					if !slices.Equal(f.fixed(there), f.fixed(back)) {
						t.Fatalf("there %v, and back %v", there, back)
					}
				}
			}
		}
	})
}

const twoDoors = `network: n
overlay: 10.9.0.0/24
sites:
  a: {endpoint: a.example.net}
  b: {endpoint: b.example.net}
  c:
clients: {pool: 10.8.0.0/24, at: [a, b], devices: {phone: , pi: }}
`

// A door has its interface as soon as there is a key to enter with, wherever it is known
// from; else apply would ask for an access key that nobody needs.
func TestDoorsOpenWithTheFirstKey(t *testing.T) {
	n := parse(t, twoDoors)
	for name, devices := range map[string]int{"": -1, "a": -1, spec.AccessKey: 0, "phone": 1, "pi": 1} {
		for site, isDoor := range map[string]bool{"a": true, "b": true, "c": false} {
			r, err := compile.Router(n, site, compile.Options{Keys: map[string]key.Public{name: {7}}})
			if err != nil {
				t.Fatal(err)
			}
			has := slices.ContainsFunc(r.Interfaces, func(f state.Interface) bool { return f.Name == spec.ClientsInterface })
			if want := isDoor && devices >= 0; has != want || (r.Clients != nil) != want {
				t.Errorf("with the key of %q, %s is a door: %t, and clients %v", name, site, has, r.Clients)
			}
			if r.Clients != nil && len(r.Clients.Devices) != devices {
				t.Errorf("with the key of %q, %s takes %v", name, site, r.Clients.Devices)
			}
		}
	}
}

// The options' keys go before those of the file.
func TestDevicesHaveTheKeysOfTheOptions(t *testing.T) {
	n := parse(t, twoDoors)
	n.Clients.Key, n.Clients.Devices[0].Key = key.Public{1}, key.Public{2}
	r, err := compile.Router(n, "a", compile.Options{Keys: map[string]key.Public{spec.AccessKey: {3}, "phone": {4}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Interfaces {
		if w := f.WireGuard; f.Name == spec.ClientsInterface && (w.PublicKey != key.Public{3} || w.Peers[0].PublicKey != key.Public{4} || w.PrivateKey != spec.AccessKey) {
			t.Errorf("the device is %+v", w)
		}
	}
	if k := r.Clients.Devices[0].PublicKey; k != (key.Public{4}) {
		t.Errorf("phone has key %s", k)
	}
}
