package plan

import "strings"

// edit is a line that comes (+), goes (-), or stays for orientation (blank).
type edit struct {
	sign rune
	line string
}

// context is how many unchanged lines are shown beside changed ones.
const context = 1

// maxCells bounds the work of a comparison, which grows with the product of the lines.
const maxCells = 4 << 20

func splitLines(s string) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\t", "    "), "\n")
}

// diffLines compares two texts by their longest common subsequence of lines. It gives up,
// and says so, on texts for which that would take long.
func diffLines(a, b []string) ([]edit, bool) {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, edit{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a)*len(b) > maxCells {
		return nil, false
	}
	edits := append(head, middle(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		edits = append(edits, tail[i])
	}
	return hunks(edits), true
}

// middle is the textbook's dynamic programme.
func middle(a, b []string) []edit {
	width := len(b) + 1
	common := make([]int32, (len(a)+1)*width) // longest of a[i:] and b[j:]
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if at := i*width + j; a[i] == b[j] {
				common[at] = common[at+width+1] + 1
			} else {
				common[at] = max(common[at+1], common[at+width])
			}
		}
	}
	var out []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch at := i*width + j; {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, edit{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[at+width] >= common[at+1]:
			out = append(out, edit{'-', a[i]})
			i++
		default:
			out = append(out, edit{'+', b[j]})
			j++
		}
	}
	return out
}

// hunks leaves out what stays far from any change, with … in its place.
func hunks(edits []edit) []edit {
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.sign == ' ' {
			continue
		}
		for j := max(0, i-context); j <= min(len(edits)-1, i+context); j++ {
			near[j] = true
		}
	}
	var out []edit
	for i, e := range edits {
		switch {
		case near[i]:
			out = append(out, e)
		case i == 0 || near[i-1]:
			out = append(out, edit{' ', "…"})
		}
	}
	return out
}
