package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// nft is the program nft. It is sought at the first use, and only there: a router without
// a table of ours needs none.
type nft struct {
	path string
	pids pids // of the runs that may have changed something
}

// pids are the last process ids of ours, for a Watcher to know them by.
type pids struct {
	mu   sync.Mutex
	last [16]int
	next int
}

func (p *pids) add(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.next%len(p.last)] = pid
	p.next++
}

func (p *pids) has(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pid != 0 && slices.Contains(p.last[:], pid)
}

// nftPaths are where nft is where PATH does not lead, as for a user who is not root.
var nftPaths = []string{"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"}

func findNft() (string, error) {
	if path, err := exec.LookPath("nft"); err == nil {
		return path, nil
	}
	for _, path := range nftPaths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("the program nft is missing: install the package nftables")
}

// run runs nft, in the namespace of the calling thread, with input on its standard input.
func (n *nft) run(ctx context.Context, input string, args ...string) (string, error) {
	if n.path == "" {
		path, err := findNft()
		if err != nil {
			return "", err
		}
		n.path = path
	}
	cmd := exec.CommandContext(ctx, n.path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	if err == nil {
		if input != "" {
			n.pids.add(cmd.Process.Pid)
		}
		err = cmd.Wait()
	}
	if err != nil {
		if text := complaint(stderr.String()); text != "" {
			return "", fmt.Errorf("nft: %s", text)
		}
		return "", fmt.Errorf("nft: %w", err)
	}
	return stdout.String(), nil
}

// complaint returns the first thing that nft complains about: the sentence, and the line
// that it is about.
func complaint(stderr string) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if len(lines) > 2 {
		lines = lines[:2]
	}
	for i := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimSpace(lines[i]), "/dev/stdin:")
	}
	return strings.Join(lines, ": ")
}

// table is the name of an nftables table.
type table struct{ family, name string }

func (t table) String() string { return t.family + " " + t.name }

// nftFamilies are the families of tables (linux/netfilter.h, NFPROTO_*).
var nftFamilies = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp",
	unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
}

// sizeofNfgenmsg is sizeof(struct nfgenmsg).
const sizeofNfgenmsg = 4

// decodeTable reads an NFT_MSG_NEWTABLE message.
func decodeTable(b []byte) (table, bool) {
	if len(b) < sizeofNfgenmsg {
		return table{}, false
	}
	t := table{family: nftFamilies[b[0]]}
	attributes(b[sizeofNfgenmsg:], func(kind uint16, v []byte) {
		if kind == unix.NFTA_TABLE_NAME {
			t.name = text(v)
		}
	})
	return t, t.family != "" && t.name != ""
}

// tables returns every table of a name, in whatever family.
func tables(name string) ([]table, error) {
	all, err := allTables()
	return slices.DeleteFunc(all, func(t table) bool { return t.name != name }), err
}

// allTables returns every table. A kernel without nftables has none.
func allTables() ([]table, error) {
	s, err := openSocket(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.close()
	var w writer
	w.begin(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, 0, make([]byte, sizeofNfgenmsg))
	found, err := dump(s, &w, decodeTable)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // nfnetlink without nf_tables: net/netfilter/nfnetlink.c
	}
	return found, wrap("read nftables tables", err)
}
