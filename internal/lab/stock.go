package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// stock is a configuration as the WireGuard apps take it: wg(8), and of what wg-quick(8)
// adds Address and MTU.
type stock struct {
	private   wgtypes.Key
	addresses []netip.Prefix
	mtu       int // bytes

	peer      wgtypes.Key
	preshared *wgtypes.Key
	allowed   []netip.Prefix
	endpoint  string         // HOST:PORT
	at        netip.AddrPort // the same, resolved
	keepalive time.Duration  // 0: none
}

// stockMTU is the MTU of a tunnel of which nothing is said: what WireGuard leaves of an
// Ethernet's.
const stockMTU = 1420

// parseStock reads a configuration with one peer. No error repeats a key.
func parseStock(text string) (stock, error) {
	c := stock{mtu: stockMTU}
	section, peers := "", 0
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if strings.HasPrefix(line, "[") {
			if section = strings.ToLower(line); section == "[peer]" {
				peers++
			}
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if err := c.set(section, strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)); err != nil {
			return stock{}, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	switch {
	case peers != 1:
		return stock{}, fmt.Errorf("it has %d peers, and a roaming device has one", peers)
	case c.private == wgtypes.Key{} || c.peer == wgtypes.Key{} || c.endpoint == "" || len(c.addresses) == 0:
		return stock{}, errors.New("it lacks one of PrivateKey, Address, PublicKey and Endpoint")
	}
	return c, nil
}

// set takes over one line.
func (c *stock) set(section, key, value string) (err error) {
	switch section + key {
	case "[interface]privatekey":
		c.private, err = stockKey(value)
	case "[interface]address":
		c.addresses, err = appendPrefixes(c.addresses, value)
	case "[interface]mtu":
		c.mtu, err = strconv.Atoi(value)
	case "[interface]dns": // the nodes ask their hosts file
	case "[peer]publickey":
		c.peer, err = stockKey(value)
	case "[peer]presharedkey":
		var k wgtypes.Key
		k, err = stockKey(value)
		c.preshared = &k
	case "[peer]allowedips":
		c.allowed, err = appendPrefixes(c.allowed, value)
	case "[peer]endpoint":
		c.endpoint = value
	case "[peer]persistentkeepalive":
		if value == "off" {
			value = "0"
		}
		var seconds uint64
		seconds, err = strconv.ParseUint(value, 10, 16)
		c.keepalive = time.Duration(seconds) * time.Second
	default:
		return fmt.Errorf("a lab's device knows no %q here", key)
	}
	return err
}

// full reports whether a default route leads into the tunnel.
func (c stock) full() bool {
	return slices.ContainsFunc(c.allowed, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

func stockKey(text string) (wgtypes.Key, error) {
	k, err := wgtypes.ParseKey(text)
	if err != nil {
		return k, errors.New("this is no WireGuard key")
	}
	return k, nil
}

// appendPrefixes reads prefixes with commas between them. A bare address is one alone.
func appendPrefixes(list []netip.Prefix, text string) ([]netip.Prefix, error) {
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if a, bare := netip.ParseAddr(word); bare == nil {
			p, err = hostPrefix(a), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no prefix", word)
		}
		list = append(list, p)
	}
	return list, nil
}

func splitEndpoint(endpoint string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", 0, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("endpoint %q: the port is no number", endpoint)
	}
	return host, uint16(n), nil
}
