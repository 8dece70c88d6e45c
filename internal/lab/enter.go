package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVariable tells a program that it was started in a user namespace that is not yet
// arranged.
const stageVariable = "TOMBOLO_LAB_STAGE"

const tunDevice = "/dev/net/tun"

// Privileged reports whether this process may make and enter labs: it is root, or inside
// a user namespace that Enter made.
func Privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	wanted := uint32(1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SYS_CHROOT)
	return data[0].Effective&wanted == wanted
}

// Ready returns what this machine or process lacks for a lab, and what to do about it.
func Ready() error {
	var missing []error
	if !Privileged() {
		missing = append(missing, errors.New("a lab takes root (or a user namespace: see Enter)"))
	}
	if _, err := exec.LookPath("nft"); err != nil {
		missing = append(missing, errors.New("the program nft is missing; on Debian: apt install nftables"))
	}
	if err := tunOpens(); err != nil {
		missing = append(missing, err)
	}
	if len(missing) == 0 {
		return settle()
	}
	return errors.Join(missing...)
}

// tunOpens says why /dev/net/tun cannot be opened.
func tunOpens() error {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened; as root: chmod 666 %s", tunDevice, tunDevice)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s is missing; as root: modprobe tun", tunDevice)
	default:
		return err
	}
}

// Enter runs a program again, with its arguments (argv[0] is not looked at), as root of a
// new user namespace, and returns its exit code. That is how a user without privileges
// makes a lab: Up inside arranges the rest. The lab outlives the program; EnterLab finds
// it. An error says what the machine does not allow.
func Enter(ctx context.Context, argv []string) (int, error) {
	if err := tunOpens(); err != nil {
		return 0, fmt.Errorf("make a lab without root: %w\nor make it as root: sudo %s", err, strings.Join(argv, " "))
	}
	cmd := exec.Command("/proc/self/exe", argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), baseVariable+"="+baseDirectory(), stageVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make a user namespace: %w\n%s\nor make the lab as root: sudo %s",
			err, whyNoUserNamespace(), strings.Join(argv, " "))
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // it may have ended just now
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer close(signals)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			if s != syscall.SIGINT { // that the terminal gives the child too
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("run in a user namespace: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// whyNoUserNamespace names the setting that forbids user namespaces, and its remedy.
func whyNoUserNamespace() string {
	for _, s := range []struct{ file, forbids, remedy string }{
		{"kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		b, err := os.ReadFile("/proc/sys/" + s.file)
		if err == nil && strings.TrimSpace(string(b)) == s.forbids {
			return "this machine does not allow it; as root: " + s.remedy
		}
	}
	return "this machine (or the container that this is) does not allow it"
}

// EnterLab replaces the calling program by itself, with its arguments, inside the user
// namespace of a lab that Enter made. It returns only with an error. It needs nsenter
// (util-linux): a Go program has threads, and so cannot enter a user namespace itself.
func EnterLab(name string, argv []string) error {
	l, err := Open(name)
	if err != nil {
		return err
	}
	r, err := readRecord(l.dir)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return errors.New("the program nsenter is missing; on Debian: apt install util-linux")
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	args := []string{"nsenter", "--target", fmt.Sprint(r.Process.PID), "--user", "--mount", "--net",
		"--preserve-credentials", "--", "/bin/sh", "-c", `cd "$1" 2>/dev/null; shift; exec "$@"`, "sh", here, exe}
	env := append(os.Environ(), baseVariable+"="+baseDirectory())
	if err := unix.Exec(nsenter, append(args, argv[1:]...), env); err != nil {
		return fmt.Errorf("run nsenter: %w", err)
	}
	panic("lab: exec came back")
}

// settle arranges the mounts of a user namespace that Enter just made, once: a /run of
// its own, in which network namespaces can have names.
var settle = sync.OnceValue(func() error {
	if os.Getenv(stageVariable) == "" {
		return nil
	}
	if err := os.Unsetenv(stageVariable); err != nil {
		return err
	}
	if err := arrangeRun(); err != nil {
		return fmt.Errorf("arrange the user namespace: %w\n%s", err, whyNoUserNamespace())
	}
	return nil
})

func arrangeRun() error {
	if err := mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := coverRun(); err != nil {
		return err
	}
	if err := mount(netnsDir, netnsDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
}
