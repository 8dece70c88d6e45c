package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// procSys shows the settings of the namespace in which the thread is that opens a file
// (proc_sys(5), net/sysctl_net.c).
const procSys = "/proc/sys"

// sysctlPath returns the file of a setting. A name that leads elsewhere is our bug.
func sysctlPath(name string) string {
	if !filepath.IsLocal(name) {
		panic(fmt.Sprintf("kernel: no setting is called %q", name))
	}
	return filepath.Join(procSys, name)
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(sysctlPath(name))
	return strings.TrimSuffix(string(b), "\n"), err
}

// readSysctls returns the values of those settings that this kernel has.
func readSysctls(want []state.Sysctl) ([]state.Sysctl, error) {
	var out []state.Sysctl
	for _, s := range want {
		value, err := readSysctl(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read setting %s: %w", s.Name, err)
		}
		out = append(out, state.Sysctl{Name: s.Name, Value: value})
	}
	return out, nil
}

// changeSysctl sets a setting and remembers what it was. One whose value the plan did not
// know, since its interface was yet to be made, is looked at first: Only may forbid it,
// and nobody wants its value back, since it goes with the interface.
func (a *application) changeSysctl(before, s plan.Sysctl) (changed bool, err error) {
	now, err := readSysctl(s.Name)
	if err != nil {
		return false, err
	}
	if before.Value == "" {
		if s.Only != "" && now != s.Only {
			return false, nil
		}
	} else if err := a.originals.record(s.Name, now); err != nil {
		return false, err
	}
	// Without O_CREATE: the file is there or the setting is not.
	f, err := os.OpenFile(sysctlPath(s.Name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return false, err
	}
	_, err = f.WriteString(s.Value + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	return true, a.originals.settled(s.Name, s.Value)
}

// originals remembers, across processes and until the next boot, what settings were before
// we changed them.
type originals struct{ dir string }

func (o originals) path() string { return filepath.Join(o.dir, "sysctls.json") }

// load returns the values by name.
func (o originals) load() (map[string]string, error) {
	values := map[string]string{}
	b, err := os.ReadFile(o.path())
	if errors.Is(err, fs.ErrNotExist) {
		return values, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &values)
	}
	if err != nil {
		return nil, fmt.Errorf("read original settings %s: %w", o.path(), err)
	}
	return values, nil
}

// save puts the file in place by rename, so that there is never half of one.
func (o originals) save(values map[string]string) error {
	if len(values) == 0 {
		return o.forget()
	}
	b, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		panic("kernel: strings always have a JSON form: " + err.Error())
	}
	temporary := o.path() + ".new"
	err = os.MkdirAll(o.dir, 0o700)
	if err == nil {
		err = os.WriteFile(temporary, append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(temporary, o.path())
	}
	return wrap("remember original settings", err)
}

func (o originals) forget() error {
	err := os.Remove(o.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return wrap("forget original settings", err)
}

// record remembers a setting's value, unless an earlier one is known.
func (o originals) record(name, value string) error {
	return o.update(func(values map[string]string) bool {
		_, known := values[name]
		if !known {
			values[name] = value
		}
		return !known
	})
}

// settled forgets a setting that has its original value again.
func (o originals) settled(name, value string) error {
	return o.update(func(values map[string]string) bool {
		original, known := values[name]
		if known = known && original == value; known {
			delete(values, name)
		}
		return known
	})
}

// forgetDevice forgets the settings of an interface of ours that is gone.
func (o originals) forgetDevice(device string) error {
	return o.update(func(values map[string]string) bool {
		n := len(values)
		maps.DeleteFunc(values, func(name, _ string) bool { return slices.Contains(strings.Split(name, "/"), device) })
		return len(values) != n
	})
}

func (o originals) update(change func(map[string]string) bool) error {
	values, err := o.load()
	if err != nil || !change(values) {
		return err
	}
	return o.save(values)
}

// Originals returns what the settings that we changed were before, sorted, without those
// that no longer exist. One that has its original value again is not among them.
func (k *Kernel) Originals() ([]state.Sysctl, error) {
	if err := k.here(); err != nil {
		return nil, err
	}
	values, err := k.originals.load()
	if err != nil {
		return nil, err
	}
	var out []state.Sysctl
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, err := os.Stat(sysctlPath(name)); err == nil {
			out = append(out, state.Sysctl{Name: name, Value: values[name]})
		}
	}
	return out, nil
}

// ForgetOriginals forgets what the settings were.
func (k *Kernel) ForgetOriginals() error { return k.originals.forget() }
