package tunnel

import (
	"net"
	"reflect"
	"sync"
	"unsafe"

	"github.com/tailscale/wireguard-go/conn"
)

// whole is a conn.StdNetBind that sends what goes to IPv6 to all of its address.
//
// The bind takes the address that it fills in from a pool. After a packet to an IPv4 address
// that has the length of one, and it copies an IPv6 address into it before it makes it longer
// (conn/bind_std.go, Send): the packet then goes to the first four bytes of where it should,
// and to the rest of where another went before. So it is made longer before.
type whole struct {
	*conn.StdNetBind
	addresses *sync.Pool // of the bind; nil where it has none that is known
}

func newWhole() conn.Bind {
	b := conn.NewStdNetBind().(*conn.StdNetBind)
	w := whole{StdNetBind: b}
	if f := reflect.ValueOf(b).Elem().FieldByName("udpAddrPool"); f.IsValid() && f.Type() == reflect.TypeFor[sync.Pool]() {
		w.addresses = (*sync.Pool)(unsafe.Pointer(f.UnsafeAddr())) //nolint:gosec // the type was looked at, and the version is pinned
	}
	return w
}

// Send implements conn.Bind.
func (w whole) Send(bufs [][]byte, ep conn.Endpoint, offset int) error {
	if ep.DstIP().Is6() && w.addresses != nil {
		lengthen(w.addresses)
	}
	return w.StdNetBind.Send(bufs, ep, offset)
}

// lengthen has the next address from the pool be as long as one of IPv6: what a thread puts
// back it gets next.
func lengthen(pool *sync.Pool) {
	a := pool.Get().(*net.UDPAddr)
	a.IP = a.IP[:net.IPv6len]
	pool.Put(a)
}
