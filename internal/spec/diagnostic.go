package spec

// Severity says what a Diagnostic means for the file.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the file has no meaning as it stands
	Warning Severity = "warning" // it has, and probably not the one that was meant
	Note    Severity = "note"    // worth knowing
)

// Diagnostic is something to say about a place in the network file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // stable, for programs: "overlapping-lans"
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1; 0: the file as a whole
	Column   int      `json:"column"` // from 1, in characters
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
	Excerpt  string   `json:"excerpt,omitempty"` // the line of the file

	// Unbuilt marks a warning about something that is right and that this version does
	// not build yet. The lab goes on without it; apply on a router refuses.
	Unbuilt bool `json:"unbuilt,omitempty"`
}

// Diagnostics are all that there is to say about a file, in the order of its lines.
type Diagnostics []Diagnostic

// HasErrors reports whether the file has a mistake.
func (ds Diagnostics) HasErrors() bool { return ds.count(Error) > 0 }

func (ds Diagnostics) count(s Severity) int {
	n := 0
	for _, d := range ds {
		if d.Severity == s {
			n++
		}
	}
	return n
}
