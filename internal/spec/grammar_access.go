package spec

import (
	"slices"
	"strings"
)

const portPattern = "[0-9]+(-[0-9]+)?"

// cutService parts ports and their protocol, which stand in either order.
func cutService(text string) (ports, protocol string, both bool) {
	ports, protocol, both = strings.Cut(text, "/")
	if slices.Contains([]string{"tcp", "udp", "icmp"}, ports) || beginsWithDigit(protocol) && !beginsWithDigit(ports) {
		ports, protocol = protocol, ports
	}
	return ports, protocol, both
}

func beginsWithDigit(text string) bool { return text != "" && text[0] >= '0' && text[0] <= '9' }
