package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// sizeofRule is sizeof(struct fib_rule_hdr).
const sizeofRule = 12

// ruleActions are the actions of a rule (linux/fib_rules.h, FR_ACT_*). We make only those
// that package state names; others may have the rest.
var ruleActions = [...]state.RuleAction{
	unix.FR_ACT_TO_TBL: state.Lookup, unix.FR_ACT_GOTO: "goto", unix.FR_ACT_NOP: "nop",
	unix.FR_ACT_BLACKHOLE: state.RuleBlackhole, unix.FR_ACT_UNREACHABLE: state.RuleUnreachable,
	unix.FR_ACT_PROHIBIT: state.RuleProhibit,
}

func ruleAction(a state.RuleAction) uint8 {
	for i, name := range ruleActions {
		if name == a && name != "" {
			return uint8(i)
		}
	}
	panic(fmt.Sprintf("kernel: no action of a rule is called %q", a))
}

// encodeRule adds an RTM_NEWRULE or RTM_DELRULE message. All of a rule is what tells it
// apart, so both carry all of it.
func encodeRule(w *writer, kind, flags uint16, r state.Rule) {
	h := make([]byte, sizeofRule)
	h[0] = family(r.IPv6)
	if r.To.IsValid() {
		h[1] = uint8(r.To.Bits())
	}
	if r.From.IsValid() {
		h[2] = uint8(r.From.Bits())
	}
	if r.Table < 256 {
		h[4] = uint8(r.Table)
	}
	h[7] = ruleAction(r.Action)
	w.begin(kind, flags, h)
	w.uint32(unix.FRA_PRIORITY, r.Priority)
	if r.From.IsValid() && r.From.Bits() > 0 {
		w.addr(unix.FRA_SRC, r.From.Addr())
	}
	if r.To.IsValid() && r.To.Bits() > 0 {
		w.addr(unix.FRA_DST, r.To.Addr())
	}
	if r.Mask != 0 {
		w.uint32(unix.FRA_FWMARK, r.Mark)
		w.uint32(unix.FRA_FWMASK, r.Mask)
	}
	if r.IIF != "" {
		w.text(unix.FRA_IIFNAME, r.IIF)
	}
	if r.OIF != "" {
		w.text(unix.FRA_OIFNAME, r.OIF)
	}
	if r.Table >= 256 {
		w.uint32(unix.FRA_TABLE, r.Table)
	}
	if r.Suppress > 0 {
		w.uint32(unix.FRA_SUPPRESS_PREFIXLEN, uint32(r.Suppress-1))
	}
	if r.IPProto != 0 {
		w.uint8(unix.FRA_IP_PROTO, r.IPProto)
	}
	if r.DPort != 0 { // struct fib_rule_port_range: first and last
		w.bytes(unix.FRA_DPORT_RANGE, native.AppendUint16(native.AppendUint16(nil, r.DPort), r.DPort))
	}
	w.uint8(unix.FRA_PROTOCOL, r.Protocol)
}

// decodeRule reads an RTM_NEWRULE message. What package state has no word for is left out:
// see plainRule.
func decodeRule(b []byte) (state.Rule, bool) {
	if len(b) < sizeofRule {
		return state.Rule{}, false
	}
	six := b[0] == unix.AF_INET6
	if !six && b[0] != unix.AF_INET || int(b[7]) >= len(ruleActions) {
		return state.Rule{}, false
	}
	r := state.Rule{IPv6: six, Table: uint32(b[4]), Action: ruleActions[b[7]]}
	var from, to netip.Addr
	attributes(b[sizeofRule:], func(kind uint16, v []byte) {
		switch kind {
		case unix.FRA_SRC:
			from = addr(v)
		case unix.FRA_DST:
			to = addr(v)
		case unix.FRA_PRIORITY:
			r.Priority = number(v)
		case unix.FRA_FWMARK:
			r.Mark = number(v)
		case unix.FRA_FWMASK:
			r.Mask = number(v)
		case unix.FRA_IIFNAME:
			r.IIF = text(v)
		case unix.FRA_OIFNAME:
			r.OIF = text(v)
		case unix.FRA_TABLE:
			r.Table = number(v)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.Suppress = int(int32(number(v))) + 1 // absent reads as -1
		case unix.FRA_IP_PROTO:
			r.IPProto = octet(v)
		case unix.FRA_DPORT_RANGE:
			if len(v) >= 4 {
				r.DPort = native.Uint16(v)
			}
		case unix.FRA_PROTOCOL:
			r.Protocol = octet(v)
		}
	})
	if b[2] > 0 {
		r.From = prefix(from, b[2], six)
	}
	if b[1] > 0 {
		r.To = prefix(to, b[1], six)
	}
	if r.Action != state.Lookup {
		r.Table = 0
	}
	return r, r.Action != ""
}

// fibRuleInvert is FIB_RULE_INVERT (linux/fib_rules.h): the rule is for all that it does not match.
const fibRuleInvert = 2

// ruleDSCP is FRA_DSCP, of Linux 6.14.
const ruleDSCP = 0x19

// plainRule reports whether package state has words for all that an RTM_NEWRULE message says.
// A rule for which it has not is none of ours, whatever its protocol number is.
func plainRule(b []byte) bool {
	if len(b) < sizeofRule || b[3] != 0 || native.Uint32(b[8:])&fibRuleInvert != 0 {
		return false
	}
	plain := true
	attributes(b[sizeofRule:], func(kind uint16, v []byte) {
		switch kind {
		case unix.FRA_SPORT_RANGE, unix.FRA_UID_RANGE, unix.FRA_TUN_ID, unix.FRA_L3MDEV, unix.FRA_FLOW,
			unix.FRA_SUPPRESS_IFGROUP, ruleDSCP:
			plain = false
		case unix.FRA_DPORT_RANGE:
			plain = plain && len(v) >= 4 && native.Uint16(v) == native.Uint16(v[2:])
		}
	})
	return plain
}

func octet(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

// Rules returns our rules, and reads nothing else.
func (k *Kernel) Rules(ctx context.Context) ([]state.Rule, error) {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return nil, err
	}
	rules, err := k.readRules()
	return slices.DeleteFunc(rules, func(r state.Rule) bool { return !k.options.Owner.OwnsRule(r) }), err
}

// readRules returns the rules in our range, ours and others', and those with our protocol
// elsewhere; none that says more than package state has words for, as it could be taken for
// one of ours.
func (k *Kernel) readRules() ([]state.Rule, error) {
	o := k.options.Owner
	var out []state.Rule
	for _, six := range []bool{false, true} {
		var w writer
		h := make([]byte, sizeofRule)
		h[0] = family(six)
		w.begin(unix.RTM_GETRULE, 0, h)
		rules, err := dump(k.route, &w, func(b []byte) (state.Rule, bool) {
			r, ok := decodeRule(b)
			inRange := o.RuleFirst <= r.Priority && r.Priority <= o.RuleLast
			return r, ok && plainRule(b) && r.IPv6 == six && (inRange || o.Protocol != 0 && r.Protocol == o.Protocol)
		})
		if six && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		out = append(out, rules...)
	}
	return out, nil
}
