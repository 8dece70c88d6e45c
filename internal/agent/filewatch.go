package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileQuiet is how long a folder must be quiet before its file is read: an editor writes
// in several steps.
const fileQuiet = 200 * time.Millisecond

// watchFile pokes changed when the file may have changed, until ctx ends. It watches the
// folder, since most programs put a new file in the old one's place by renaming it. The
// error says that the folder cannot be watched; a change is then seen by the slow pass.
func watchFile(ctx context.Context, path string, changed chan<- struct{}) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	folder, name := filepath.Split(path)
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CREATE | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, filepath.Clean(folder), mask); err != nil {
		_ = f.Close()
		return fmt.Errorf("watch folder %s: %w", folder, err)
	}
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	b := make([]byte, 16<<10)
	pending := false
	for {
		deadline := time.Time{}
		if pending {
			deadline = time.Now().Add(fileQuiet)
		}
		_ = f.SetReadDeadline(deadline) // it may just have been closed
		n, err := f.Read(b)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pending = pending || names(b[:n], name)
		case os.IsTimeout(err):
			pending = false
			poke(changed)
		default:
			return fmt.Errorf("watch folder %s: %w", folder, err)
		}
	}
}

// names reports whether one of the events is about name, or is one that tells of lost ones
// (inotify(7)).
func names(b []byte, name string) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		size := min(int(binary.NativeEndian.Uint32(b[12:])), len(b)-unix.SizeofInotifyEvent)
		of := strings.TrimRight(string(b[unix.SizeofInotifyEvent:][:size]), "\x00")
		if of == name || binary.NativeEndian.Uint32(b[4:])&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		b = b[unix.SizeofInotifyEvent+size:]
	}
	return false
}
