package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Down ends every process inside a lab and removes all that there is of it, whether or
// not the lab's own process is still alive. When it returns, nothing is left. An error
// wraps ErrNoLab if there is no such lab.
func Down(ctx context.Context, name string) error {
	dir := directory(name)
	if _, err := os.Stat(dir); !validName(name) || errors.Is(err, fs.ErrNotExist) {
		// An Up that was killed at its very first step left the folder of all labs, empty;
		// where it is not empty, this does nothing.
		_ = os.Remove(baseDirectory())
		return fmt.Errorf("lab %q: %w", name, ErrNoLab)
	}
	held, err := seize(ctx, dir)
	if err != nil {
		return fmt.Errorf("lab %q: %w", name, err)
	}
	defer held.Close()
	// The lab's process may have removed all, and we have made the directory anew.
	if err := clean(ctx, dir); err != nil {
		return fmt.Errorf("lab %q: %w", name, err)
	}
	return nil
}

// seize takes the lock of a lab, and for that ends the lab's process: politely, when it
// takes down the lab itself, then not.
func seize(ctx context.Context, dir string) (*os.File, error) {
	start := time.Now()
	for {
		held, err := lock(dir, true)
		if !errors.Is(err, errBusy) {
			return held, err
		}
		signal := unix.SIGTERM
		if time.Since(start) > downTime {
			signal = unix.SIGKILL
		}
		r, err := readRecord(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if r.Process.alive() {
			if err := unix.Kill(r.Process.PID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return nil, fmt.Errorf("end process %d: %w", r.Process.PID, err)
			}
		}
		if time.Since(start) > downTime+killTime {
			return nil, fmt.Errorf("process %d does not end, or somebody just takes the lab up", r.Process.PID)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
