package draw

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var (
	update      = flag.Bool("update", false, "write the golden files")
	picturesDir = flag.String("pictures", "", "folder into which every picture is written, to look at")
)

// drawn draws every picture once.
var drawn = sync.OnceValue(func() map[string][]byte {
	out := map[string][]byte{}
	for name, n := range pictures() {
		out[name] = SVG(n)
	}
	return out
})

func TestSVGIsDeterministic(t *testing.T) {
	again := pictures()
	for name, svg := range drawn() {
		if !bytes.Equal(svg, SVG(again[name])) {
			t.Errorf("%s: two drawings of the same network differ", name)
		}
		if *picturesDir != "" {
			if err := os.WriteFile(filepath.Join(*picturesDir, name+".svg"), svg, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
