package plan

import (
	"strings"
)

// quote returns one word of a shell command. What a name may hold is wide (an interface
// may be called $(reboot)), and people paste these lines as root.
func quote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,+@%="
	switch {
	case word == "":
		return `""`
	case strings.Trim(word, plain) == "":
		return word
	case !strings.ContainsAny(word, "\"$`\\!"):
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
