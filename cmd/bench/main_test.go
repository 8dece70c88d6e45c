package main

import (
	"slices"
	"testing"
)

func TestMergedKeepsWhatWasNotMeasuredAgain(t *testing.T) {
	page := "# Benchmarks\n\n" + head + "| a | 1 |  |  |\n| b | 2 |  |  |\n\n## Notes\n"
	got := merged(page, []string{"| c | 9 |  |  |\n", "| b | 8 |  |  |\n"})
	if want := []string{"| a | 1 |  |  |\n", "| b | 8 |  |  |\n", "| c | 9 |  |  |\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := merged("", []string{"| c | 9 |  |  |\n"}); len(got) != 1 {
		t.Errorf("without a page: %q", got)
	}
}
