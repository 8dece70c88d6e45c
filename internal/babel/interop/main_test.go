package interop

import (
	"flag"
	"os"
	"testing"
	"time"
)

// The tests wait for each other's timers and hardly compute: more of them run at once than
// there are processors.
const atOnce = "12"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(atOnce); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// patience is how long anything may take on a slow machine. What is waited for takes a
// second or four.
const patience = 30 * time.Second

// eventually waits until f finds nothing wrong.
func eventually(t testing.TB, what string, f func() (wrong string)) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, wrong)
		}
	}
}

// steadily checks that f finds nothing wrong for a while.
func steadily(t *testing.T, what string, f func() (wrong string)) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if wrong := f(); wrong != "" {
			t.Fatalf("%s: %s", what, wrong)
		}
	}
}
