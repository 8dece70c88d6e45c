package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the network namespaces are for `ip netns`, and what each node has of its own.
const (
	netnsDir     = "/run/netns"
	runDir       = "/run"
	privateDirs  = "tombolo wireguard netns" // below /run
	hostsFile    = "hosts"                   // in the lab's directory
	resolverFile = "resolv.conf"
)

// newTemplate makes the mount namespace that the nodes' are copies of: the machine's
// files, with the lab's own /etc/hosts and /etc/resolv.conf, and a /run in which what
// nodes make is not the machine's.
func newTemplate(dir string) (template *os.File, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := arrangeTemplate(dir); err != nil {
			return err
		}
		template, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	return template, err
}

func arrangeTemplate(dir string) error {
	// What is unmounted outside goes away inside too, so that a lab keeps no disk busy;
	// nothing goes the other way.
	if err := mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := dropNamespaces(); err != nil {
		return err
	}
	for from, to := range map[string]string{hostsFile: "/etc/hosts", resolverFile: "/etc/resolv.conf"} {
		err := mount(filepath.Join(dir, from), to, "", unix.MS_BIND, "")
		// Without a resolv.conf, the resolver asks 127.0.0.1 (resolv.conf(5)), as ours says.
		if err != nil && (from == hostsFile || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return coverRun()
}

// dropNamespaces unmounts the copies of other namespaces: each would keep a namespace
// that `ip netns` deletes outside alive.
func dropNamespaces() error {
	// First keep out those that come later. It is no mount point on every machine.
	if err := mount("", netnsDir, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.kind != "nsfs" {
			continue
		}
		// What lies under another mount cannot be named, nor be reached.
		if err := unmount(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// coverRun puts a new tmpfs over /run that shows all that was in the old one, except
// what each node is to have of its own.
func coverRun() error {
	old, err := os.Open(runDir)
	if err != nil {
		return err
	}
	defer old.Close()
	entries, err := old.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("read %s: %w", runDir, err)
	}
	if err := mount("tmpfs", runDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=64m"); err != nil {
		return err
	}
	private := strings.Fields(privateDirs)
	for _, name := range private {
		if err := os.Mkdir(filepath.Join(runDir, name), 0o755); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if slices.Contains(private, e.Name()) {
			continue
		}
		if err := showOld(old, e); err != nil {
			return err
		}
	}
	return nil
}

// showOld makes an entry of the old /run visible in the new one.
func showOld(old *os.File, e fs.DirEntry) error {
	from := fmt.Sprintf("/proc/thread-self/fd/%d/%s", old.Fd(), e.Name())
	to := filepath.Join(runDir, e.Name())
	var err error
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
		return ignoreMissing(err)
	case e.IsDir():
		err = os.Mkdir(to, 0o755)
	default:
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return ignoreMissing(mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""))
}

// ignoreMissing passes over what somebody removed meanwhile.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// newNode makes a node's namespaces: the template's mounts, and beside them the node's
// own /run/tombolo, /run/wireguard (`wg` finds a device there by its name alone) and /sys.
// The settings come before any device does, which takes its own from them.
func newNode(template *os.File, n Node) (node *namespaces, err error) {
	err = onThread(func() error {
		if err := (&namespaces{mnt: template}).enter(); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("make namespaces: %w", err)
		}
		if err := unix.Sethostname([]byte(n.Name)); err != nil {
			return fmt.Errorf("set hostname: %w", err)
		}
		for _, name := range []string{"tombolo", "wireguard"} {
			flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
			if err := mount("tmpfs", filepath.Join(runDir, name), "tmpfs", flags, "mode=755,size=16m"); err != nil {
				return err
			}
		}
		if real, err := filepath.EvalSymlinks("/var/run"); err == nil && real != runDir {
			if err := mount(runDir, "/var/run", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
		}
		// A container may forbid it. Then /sys shows the machine's devices, which
		// nothing of ours reads.
		_ = mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if err := setAll(everywhere, settings[n.Kind]); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		node, err = current()
		return err
	})
	return node, err
}

// mount is mount(2), with the target in its error.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount on %s: %w", target, err)
	}
	return nil
}

// unmount takes a mount away at once, even where it is in use.
func unmount(target string) error {
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// mountPoint is a line of mountinfo(5).
type mountPoint struct {
	path, kind string
	shared     bool
}

// mountPoints lists the mounts that the calling thread sees.
func mountPoints() ([]mountPoint, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []mountPoint
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		words := strings.Fields(before)
		if !ok || len(words) < 6 {
			return nil, fmt.Errorf("read mountinfo: %q is no mount", lines.Text())
		}
		kind, _, _ := strings.Cut(after, " ")
		out = append(out, mountPoint{
			path:   unescape.Replace(words[4]),
			kind:   kind,
			shared: strings.Contains(" "+strings.Join(words[6:], " "), " shared:"),
		})
	}
	return out, lines.Err()
}

// unescape undoes mountinfo's escapes.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
