package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxWeight is the largest share of a next hop (rtnh_hops is one byte, and one less).
const maxWeight = 256

// SetDefault puts a default route with a protocol in the place of what is there with that
// table, family and metric, without a moment in which there is none (see the package's
// documentation for the microsecond of a lookup under way). Without hops it removes
// it; that there is none is no error. One of another protocol in its place is, as is a hop
// whose device is gone or down, which the error names: then everything stays as it was.
//
// An IPv4 gateway outside the subnets of its device needs OnLink.
func (k *Kernel) SetDefault(ctx context.Context, protocol uint8, d Default) error {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return err
	}
	if protocol == 0 || d.Table == 0 {
		panic("kernel: a default route without a protocol or a table")
	}
	verb := "set"
	if len(d.Hops) == 0 {
		verb = "remove"
	}
	if err := k.setDefault(protocol, d); err != nil {
		return fmt.Errorf("%s %s: %w", verb, d, err)
	}
	return nil
}

func (k *Kernel) setDefault(protocol uint8, d Default) error {
	indexes, err := k.hopIndexes(&d)
	if err != nil {
		return err
	}
	there, err := k.tableDefaults(d.Table, d.IPv6, 0, nil)
	if err != nil {
		return err
	}
	ours := 0
	for _, r := range there {
		switch {
		case r.normal().Metric != d.Metric:
		case r.protocol == protocol:
			ours++
		case len(d.Hops) > 0:
			return fmt.Errorf("another's is there: its protocol is %d, not %d", r.protocol, protocol)
		}
	}
	// A replacement replaces the first, and lets it be where it is a second's twin.
	for keep := min(1, len(d.Hops)); ours > keep; ours-- {
		var w writer
		encodeDefault(&w, unix.RTM_DELROUTE, 0, protocol, d)
		if err := k.send(&w); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if len(d.Hops) == 0 {
		return nil
	}
	var w writer
	encodeDefault(&w, unix.RTM_NEWROUTE, flagsChange, protocol, d)
	encodeHops(&w, d, indexes)
	return k.send(&w)
}

// send carries out the one message of w.
func (k *Kernel) send(w *writer) error {
	outcomes, _, err := k.route.execute(w)
	return errors.Join(append(outcomes, err)...)
}

// hopIndexes brings a default route to its normal form and returns the indexes of its hops'
// devices.
func (k *Kernel) hopIndexes(d *Default) ([]int, error) {
	*d = d.normal()
	var out []int
	for i := range d.Hops {
		h := &d.Hops[i]
		if h.Weight < 1 || h.Weight > maxWeight {
			panic(fmt.Sprintf("kernel: a next hop of weight %d", h.Weight))
		}
		if i > 0 && d.Hops[i-1].Device == h.Device && d.Hops[i-1].Gateway == h.Gateway {
			// IPv6 would refuse it after it has removed what was there.
			return nil, fmt.Errorf("device %s with gateway %s stands there twice", h.Device, h.Gateway)
		}
		l, err := k.findLink(h.Device)
		switch {
		case err != nil:
			return nil, fmt.Errorf("device %s: %w", h.Device, err)
		case !l.up:
			return nil, fmt.Errorf("device %s: %w", h.Device, unix.ENETDOWN)
		case d.IPv6 && len(d.Hops) > 1 && !h.Gateway.IsValid():
			if !l.pointToPoint {
				return nil, fmt.Errorf("device %s: it has many neighbours, and so it needs a gateway", h.Device)
			}
			h.Gateway = peer6
		}
		out = append(out, l.index)
	}
	return out, nil
}

// encodeDefault adds an RTM_NEWROUTE or RTM_DELROUTE message without next hops: to remove, that
// is any route with the key, and all of its hops.
func encodeDefault(w *writer, kind, flags uint16, protocol uint8, d Default) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = family(d.IPv6)
	if d.Table < 256 {
		h[4] = uint8(d.Table)
	}
	h[5] = protocol
	switch {
	case d.IPv6:
	case kind == unix.RTM_DELROUTE:
		h[6] = unix.RT_SCOPE_NOWHERE // any: routeScope
	case len(d.Hops) == 1 && !d.Hops[0].Gateway.IsValid():
		h[6] = unix.RT_SCOPE_LINK
	}
	if kind == unix.RTM_NEWROUTE {
		h[7] = unix.RTN_UNICAST
		if len(d.Hops) == 1 && d.Hops[0].OnLink {
			native.PutUint32(h[8:], unix.RTNH_F_ONLINK)
		}
	}
	w.begin(kind, flags, h)
	if d.Table >= 256 {
		w.uint32(unix.RTA_TABLE, d.Table)
	}
	metric := d.Metric
	if d.IPv6 && metric == 0 {
		metric = defaultMetric6
	}
	if metric != 0 {
		w.uint32(unix.RTA_PRIORITY, metric)
	}
}

// encodeHops adds the next hops to the message: several as RTA_MULTIPATH, a list of struct
// rtnexthop that each have attributes of their own.
func encodeHops(w *writer, d Default, indexes []int) {
	if len(d.Hops) == 1 {
		encodeGateway(w, d.Hops[0].Gateway, d.IPv6)
		w.uint32(unix.RTA_OIF, uint32(indexes[0]))
		return
	}
	end := w.nest(unix.RTA_MULTIPATH)
	for i, h := range d.Hops {
		at := len(w.b)
		w.b = native.AppendUint16(w.b, 0) // length: below
		var flags byte
		if h.OnLink {
			flags = unix.RTNH_F_ONLINK
		}
		w.b = append(w.b, flags, byte(h.Weight-1))
		w.b = native.AppendUint32(w.b, uint32(indexes[i]))
		encodeGateway(w, h.Gateway, d.IPv6)
		native.PutUint16(w.b[at:], uint16(len(w.b)-at))
	}
	end()
}
