package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatCompletesBehindDownIsAccepted(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	texts := map[string]string{"ports": portsNetwork, "plain": portsNetwork + `
  cabin: {kind: plain, address: 10.9.0.9, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}
clients: {pool: 10.31.0.0/24, at: a}`}
	for _, path := range files {
		if lab, _ := filepath.Match("*.lab.yaml", filepath.Base(path)); lab {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	for name, text := range texts {
		n := parsed(t, text)
		words := whatFails(n)
		if len(words) == 0 {
			t.Errorf("%s: nothing completes", name)
		}
		for _, word := range words {
			if _, err := worldOf(n, []string{word}, nil); err != nil {
				t.Errorf("%s: %s: %v", name, word, err)
			}
		}
	}
}
