package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// What stands in a lab's directory, beside hostsFile and resolverFile. Callers may add
// files and directories of their own; they go with the lab.
const (
	lockFile    = "lock"        // held (flock) by the lab's process
	configFile  = "config.json" // what Up was given
	recordFile  = "lab.json"    // what others need to know, also after the process died
	controlFile = "control"     // the socket of the lab's process
	logFile     = "lab.log"     // what it had to say
)

// baseVariable names the directory of all labs inside a user namespace, where /run is
// another one.
const baseVariable = "TOMBOLO_LAB_DIR"

// ErrNoLab is what stands in an error about a lab that is not there.
var ErrNoLab = errors.New("there is no such lab")

// baseDirectory is where the labs' directories are: for root in /run, for others in
// their runtime directory or below the temporary one.
func baseDirectory() string {
	switch dir, uid := os.Getenv("XDG_RUNTIME_DIR"), os.Geteuid(); {
	case os.Getenv(baseVariable) != "":
		return os.Getenv(baseVariable)
	case uid == 0:
		return "/run/tombolo-lab"
	case filepath.IsAbs(dir):
		return filepath.Join(dir, "tombolo-lab")
	default:
		return filepath.Join(os.TempDir(), fmt.Sprintf("tombolo-lab-%d", uid))
	}
}

// directory is where a lab's files are.
func directory(name string) string { return filepath.Join(baseDirectory(), name) }

// config is what Up gives the lab's process.
type config struct {
	Name    string         `json:"name"`
	Routers []state.Router `json:"routers"`
	Clients []Client       `json:"clients,omitempty"`
	File    File           `json:"file"`
}

// record is what is known of a lab.
type record struct {
	Name    string    `json:"name"`
	Network string    `json:"network,omitempty"`
	Process process   `json:"process"` // the lab's
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"` // all that the lab makes is made
	Nodes   []Node    `json:"nodes"`

	// Rootless says that the lab is in a user namespace that Enter made, where /run, and
	// so the names of its network namespaces, are other ones.
	Rootless bool `json:"rootless,omitempty"`
}

// visible returns the nodes whose network namespaces' names are, or were, in our /run.
func (r record) visible() []Node {
	if r.Rootless && os.Getenv(baseVariable) == "" {
		return nil
	}
	return r.Nodes
}

// process is one that is still the same when it is looked for again.
type process struct {
	PID   int    `json:"pid"`
	Ticks uint64 `json:"ticks"` // when it started, in clock ticks after the boot (proc_pid_stat(5))
	Boot  string `json:"boot"`
}

// self describes the calling process.
func self() (process, error) {
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	ticks, err := startTicks(os.Getpid())
	return process{PID: os.Getpid(), Ticks: ticks, Boot: boot}, err
}

// alive reports whether it is still there.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	boot, err := bootID()
	if err != nil || boot != p.Boot {
		return false
	}
	ticks, err := startTicks(p.PID)
	return err == nil && ticks == p.Ticks
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b)), err
}

func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name, in parentheses, and may hold anything.
	after := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(after) < 20 {
		return 0, fmt.Errorf("read /proc/%d/stat: it is too short", pid)
	}
	if after[0][0] == 'Z' {
		return 0, fs.ErrNotExist // dead, and not yet waited for
	}
	return strconv.ParseUint(string(after[19]), 10, 64)
}

// writeJSON writes a file that others see either as it was or complete.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readRecord reads what is known of the lab in a directory.
func readRecord(dir string) (record, error) {
	var r record
	err := readJSON(filepath.Join(dir, recordFile), &r)
	return r, err
}

// errBusy says that another process holds the lock of a lab.
var errBusy = errors.New("the lab's process holds its lock")

// lock takes the lock of the lab in a directory, which it makes if make is set. Who holds
// it may change what is there. Otherwise the error is fs.ErrNotExist or errBusy.
func lock(dir string, create bool) (*os.File, error) {
	for {
		if create {
			err := makeDirectory(dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the last lab took the directory of all away just now
			}
			if err != nil {
				return nil, err
			}
		}
		flags := os.O_RDWR
		if create {
			flags |= os.O_CREATE
		}
		path := filepath.Join(dir, lockFile)
		f, err := os.OpenFile(path, flags, 0o600)
		if create && errors.Is(err, fs.ErrNotExist) {
			continue // somebody took the directory away just now
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errBusy
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if isStill(path, f) {
			return f, nil
		}
		f.Close() // it was removed between our opening and locking it
	}
}

func isStill(path string, f *os.File) bool {
	here, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(here, open)
}

// makeDirectory makes a lab's directory, and the one of all labs, which must be ours:
// below /tmp somebody else could have made it.
func makeDirectory(dir string) error {
	base := filepath.Dir(dir)
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(base, &st); err != nil {
		return fmt.Errorf("stat %s: %w", base, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: it must be a directory of user %d that nobody else may write to", base, os.Geteuid())
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
