package tunnel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The few questions about an interface that supervisor and worker ask by ioctl; see
// netdevice(7). Everything else about interfaces is internal/kernel's.

// ioctlIf runs one ioctl of netdevice(7) on an interface.
func ioctlIf(req uint, ifr *unix.Ifreq) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.IoctlIfreq(fd, req, ifr)
}

func setMTU(name string, mtu int) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	if err := ioctlIf(unix.SIOCSIFMTU, ifr); err != nil {
		return fmt.Errorf("set MTU %d: %w", mtu, err)
	}
	return nil
}

func ifMTU(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := ioctlIf(unix.SIOCGIFMTU, ifr); err != nil {
		return 0, fmt.Errorf("read MTU of %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

func ifIndex(name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := ioctlIf(unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("find index of %s: %w", name, err)
	}
	return ifr.Uint32(), nil
}

// ifUp reports whether the interface is administratively up (IFF_UP), which is when the
// kernel's WireGuard opens its UDP sockets too.
func ifUp(name string) (bool, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return false, err
	}
	if err := ioctlIf(unix.SIOCGIFFLAGS, ifr); err != nil {
		return false, fmt.Errorf("read flags of %s: %w", name, err)
	}
	return ifr.Uint16()&unix.IFF_UP != 0, nil
}
