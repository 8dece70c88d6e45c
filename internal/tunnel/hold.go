package tunnel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// uapiDir is where wg(8) and wgctrl look for the sockets of user-space devices. They go by
// file name alone: namespaces that share a file system share these names.
const uapiDir = "/var/run/wireguard"

func uapiPath(name string) string { return filepath.Join(uapiDir, name+".sock") }

// ErrForeign says that an interface of the wanted name exists and is not the tunnel
// process's.
var ErrForeign = errors.New("an interface of that name exists and is not ours")

// checkName refuses what the kernel refuses as an interface name (dev_valid_name in
// net/core/dev.c), and '%', which it would take for a template.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("interface name is empty")
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface name %q is longer than %d bytes", name, unix.IFNAMSIZ-1)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:% \t\n\v\f\r"):
		return fmt.Errorf("interface name %q is not one the kernel takes", name)
	}
	return nil
}

// A TUN takes any MTU from ETH_MIN_MTU to 65535 (drivers/net/tun.c).
const minMTU, maxMTU = 68, 65535

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return fmt.Errorf("MTU %d is not between %d and %d", mtu, minMTU, maxMTU)
	}
	return nil
}

// held is what keeps an interface alive over a crash of the worker. The descriptors are
// plain numbers, not os.Files: those would register with the runtime's poller and wake the
// supervisor for every packet.
type held struct {
	tun    int // queue of the TUN; the interface exists as long as one copy is open
	uapi   int // listening socket; callers queue in its backlog while no worker runs
	socket fileID
}

// hold makes the interface name with its UAPI socket.
func hold(name string, mtu int) (held, error) {
	tun, err := openTUN(name)
	if err != nil {
		return held{}, err
	}
	h := held{tun: tun, uapi: -1}
	if err := setMTU(name, mtu); err != nil {
		h.release(name)
		return held{}, err
	}
	likeKernelWireGuard(name)
	if h.uapi, h.socket, err = listenUAPI(name); err != nil {
		h.release(name)
		return held{}, err
	}
	return h, nil
}

// release closes both descriptors and removes the socket's file, unless it is another's by
// now. When the worker has closed its copies, the interface is gone on return.
func (h held) release(name string) {
	if h.uapi >= 0 {
		if id, err := fileIDOf(uapiPath(name)); err == nil && id == h.socket {
			_ = os.Remove(uapiPath(name))
		}
		_ = unix.Close(h.uapi)
	}
	_ = unix.Close(h.tun)
}

// attached reports whether the interface still exists: TUNGETIFF answers EBADFD once it
// has been deleted.
func (h held) attached() bool {
	_, err := tunName(h.tun)
	return err == nil
}

// openTUN makes a TUN with offloads (IFF_VNET_HDR). IFF_TUN_EXCL keeps it from attaching
// to a persistent TUN of somebody else.
func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	switch err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); {
	case errors.Is(err, unix.EBUSY):
		_ = unix.Close(fd)
		return -1, ErrForeign
	case err != nil:
		_ = unix.Close(fd)
		return -1, fmt.Errorf("make TUN: %w", err)
	}
	return fd, nil
}

func tunName(fd int) (string, error) {
	var ifr unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// likeKernelWireGuard takes the defaults of the kernel's driver (wg_open in
// drivers/net/wireguard/device.c): no link-local address by itself, no ICMP redirects. Best
// effort: without IPv6 there is no file, in some containers it is read-only.
func likeKernelWireGuard(name string) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0)
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/send_redirects", []byte("0"), 0)
}

// listenUAPI opens the socket of device name, over the file that a killed process may have
// left.
func listenUAPI(name string) (int, fileID, error) {
	fail := func(err error) (int, fileID, error) {
		return -1, fileID{}, fmt.Errorf("listen on %s: %w", uapiPath(name), err)
	}
	if err := os.MkdirAll(uapiDir, 0o755); err != nil {
		return fail(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	addr := &unix.SockaddrUnix{Name: uapiPath(name)}
	err = unix.Bind(fd, addr)
	if errors.Is(err, unix.EADDRINUSE) && abandoned(addr) {
		_ = os.Remove(addr.Name)
		err = unix.Bind(fd, addr)
	}
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = errors.New("another process listens there; these sockets go by interface name, also across network namespaces")
	}
	if err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	id, err := fileIDOf(addr.Name)
	if err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	return fd, id, nil
}

// abandoned reports whether nobody listens on the socket file any more.
func abandoned(addr *unix.SockaddrUnix) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Connect(fd, addr), unix.ECONNREFUSED)
}

// fileID tells files apart.
type fileID struct{ dev, ino uint64 }

func fileIDOf(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // it has 32 bits on mips
}

// namespace names the network namespace of the calling thread.
func namespace() (string, error) {
	id, err := fileIDOf("/proc/thread-self/ns/net")
	if err != nil {
		return "", fmt.Errorf("find network namespace: %w", err)
	}
	return fmt.Sprintf("%d:%d", id.dev, id.ino), nil
}
