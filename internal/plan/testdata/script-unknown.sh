# settings
if [ "$(sysctl -n net.ipv6.conf.eth0.accept_ra)" = 1 ]; then sysctl -w net.ipv6.conf.eth0.accept_ra=2; fi

# interfaces
ip link add wg-op1 type wireguard
wg set wg-op1 listen-port 51821 fwmark 0x7f000000 private-key keys/op2.key
ip link set wg-op1 mtu 1420 alias "tombolo home op1" up
ip link add wg-op3 type wireguard
wg set wg-op3 listen-port 51823 fwmark 0x7f000000 private-key keys/op2.key
ip link set wg-op3 mtu 1420 alias "tombolo home op3" up

# settings
sysctl -w net.ipv4.conf.wg-op1.rp_filter=0
sysctl -w net.ipv4.conf.wg-op3.rp_filter=0

# addresses
ip address add 10.0.32.2/32 dev wg-op1
ip address add fd74:6f6d::2/128 dev wg-op1 nodad noprefixroute
ip address add fe80::2/64 dev wg-op1 nodad
ip address add 10.0.32.2/32 dev wg-op3
ip address add fd74:6f6d::2/128 dev wg-op3 nodad noprefixroute
ip address add fe80::2/64 dev wg-op3 nodad

# peers
wg set wg-op1 peer "<public key of op1>" preshared-key keys/op1+op2.psk endpoint op1.example.net:51822 allowed-ips 0.0.0.0/0,::/0 persistent-keepalive 25
wg set wg-op3 peer "<public key of op3>" preshared-key keys/op2+op3.psk endpoint "[2001:db8::3]:51822" allowed-ips 0.0.0.0/0,::/0 persistent-keepalive 25

# routes
ip route add 10.0.32.1/32 dev wg-op1 table 110 proto 84 src 10.0.32.2
ip route add 10.0.32.3/32 dev wg-op3 table 110 proto 84 src 10.0.32.2
ip route add 192.168.35.0/24 dev wg-op1 table 110 proto 84 src 10.0.32.2
ip route add 192.168.37.0/24 dev wg-op3 table 110 proto 84 src 10.0.32.2
ip -6 route add default from fd74:6f6d:0:1::/64 dev wg-op1 table 110 proto 84
ip -6 route add fd74:6f6d::3/128 dev wg-op3 table 110 proto 84
ip route add unreachable default table 120 proto 84 metric 4294967295
ip -6 route add unreachable default table 120 proto 84 metric 4294967295
ip route add 192.168.38.0/24 via inet6 fe80::3 dev wg-op3 onlink table 110 proto 84

# firewall
nft -f - <<'EOF'
table inet tombolo {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		udp dport { 51821, 51823 } accept comment "tunnels"
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname { "wg-op1", "wg-op3" } accept
		oifname { "wg-op1", "wg-op3" } accept
	}
}
EOF

# rules
ip rule add pref 500 fwmark 0x7f000000/0xff000000 lookup main protocol 84
ip -6 rule add pref 500 fwmark 0x7f000000/0xff000000 lookup main protocol 84
ip rule add pref 501 fwmark 0x7f000000/0xff000000 unreachable protocol 84
ip -6 rule add pref 501 fwmark 0x7f000000/0xff000000 unreachable protocol 84
ip rule add pref 520 lookup 110 suppress_prefixlength 0 protocol 84
ip -6 rule add pref 520 lookup 110 suppress_prefixlength 0 protocol 84
ip rule add pref 560 from 192.168.36.0/24 iif br-lan lookup 120 protocol 84

# settings
sysctl -w net.ipv4.ip_forward=1
sysctl -w net.ipv6.conf.all.forwarding=1
