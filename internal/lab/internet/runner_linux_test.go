package internet

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that goes before others and is then used for something else would do so there.
func TestHurryIsTakenBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	policy := func() uint32 {
		t.Helper()
		a, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return a.Policy
	}
	before := policy()
	back := hurry()
	during := policy()
	back()
	if after := policy(); after != before {
		t.Errorf("the thread's policy is %d, and was %d before", after, before)
	}
	t.Logf("in a hurry it was %d", during) // whether it may depends on where this runs
}
