package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stageEnv tells Supervise what it is. A Client runs the command as launcher; the launcher
// runs it once more, detached, and ends when that one is ready. So the supervisor is init's
// child and no caller has to reap it, and the caller learns why a start went wrong. Without
// the variable Supervise stays in the foreground, for a service manager or a terminal.
const (
	stageEnv      = "TOMBOLO_TUNNEL_STAGE"
	stageLaunch   = "launch"
	stageDetached = "detached"
)

// readyFD is where a detached supervisor finds the launcher's pipe.
const readyFD = 3

// readyWord is what comes through the pipe when all is well; anything else is the reason
// why not.
const readyWord = "ready\n"

// launch starts this very command line again in a session of its own, with its output in
// DIR/tunnel.log, and waits until it listens.
func launch(ctx context.Context, dir string) error {
	log, err := os.OpenFile(logPath(dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// Whoever waits for the end of a descriptor that the caller let us inherit must not wait
	// for the supervisor. Linux before 5.11 keeps them.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = argv0()
	cmd.Env = append(os.Environ(), stageEnv+"="+stageDetached)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w} // readyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word, err := io.ReadAll(io.LimitReader(r, 4096))
	switch {
	case string(word) == readyWord:
		return nil
	case err != nil:
		return fmt.Errorf("wait for the supervisor: %w", err)
	case len(word) == 0:
		return fmt.Errorf("the supervisor ended early, see %s", logPath(dir))
	}
	return errors.New(strings.TrimSpace(string(word)))
}

// reporter returns a function that tells the launcher, once, how the start went. In the
// foreground it does nothing.
func reporter(stage string) func(error) {
	if stage != stageDetached {
		return func(error) {}
	}
	pipe := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	return func(err error) {
		word := readyWord
		if err != nil {
			word = err.Error()
		}
		_, _ = io.WriteString(pipe, word)
		_ = pipe.Close()
	}
}

// errServed says that another supervisor serves the directory: a start was won by another.
var errServed = errors.New("another tunnel process serves this directory")

// lockWait is how long a new supervisor waits for the one before it, or for that one's
// worker, to end.
const lockWait = 10 * time.Second

// takeLock takes DIR/tunnel.lock. Supervisor and worker hold it as one open file (flock(2)
// locks belong to those), so it is free only when both have ended.
func takeLock(ctx context.Context, dir string) (*os.File, error) {
	lock, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return lock, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			err = fmt.Errorf("lock %s: %w", lockPath(dir), err)
		case listens(dir):
			err = errServed
		case time.Now().After(end):
			err = fmt.Errorf("lock %s: an earlier tunnel process has not ended", lockPath(dir))
		default:
			if err = pause(ctx, 5*time.Millisecond); err == nil {
				continue
			}
		}
		lock.Close()
		return nil, err
	}
}

func listens(dir string) bool {
	c, err := net.Dial("unix", socketPath(dir))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// argv0 returns the program's name for the command line of what it starts, which would
// otherwise begin with /proc/self/exe.
func argv0() string {
	exe, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return filepath.Base(exe)
}

// setComm names the process in ps(1); started through /proc/self/exe it would be "exe".
func setComm(name string) {
	pid := strconv.Itoa(os.Getpid())
	_ = os.WriteFile("/proc/self/task/"+pid+"/comm", []byte(name), 0)
}

// maxLog bounds DIR/tunnel.log: runtime directories lie in memory, and a worker that dies
// again and again leaves a stack trace each time.
const maxLog = 256 << 10

// trimLog empties the log when it has grown too long and is ours (standard error).
func trimLog(dir string) {
	var ours, file unix.Stat_t
	if unix.Fstat(2, &ours) != nil || unix.Stat(logPath(dir), &file) != nil {
		return
	}
	if ours.Dev == file.Dev && ours.Ino == file.Ino && file.Size > maxLog {
		_ = unix.Ftruncate(2, 0)
	}
}

// noCore keeps the keys in this process's memory out of core files.
func noCore() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
