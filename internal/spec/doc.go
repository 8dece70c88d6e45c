// Package spec reads the network file: YAML in which a person says which sites there are
// and what should reach what.
//
// Parse gives a Network, whose names all refer to something and whose defaults are filled
// in, and Diagnostics: every mistake at once, each with its line, its column, the way out
// and, for programs, a stable code. A file with a mistake gives no Network.
//
// One file's way through it: the bytes become YAML nodes (syntax.go), the grammar's records
// read them into declarations, each value with its place (shape.go, decl.go), and a builder
// makes the Network of those while it looks for what only the whole file shows (parse.go
// and the files of its steps).
//
// The language is one table, the grammar, which the decoder, the JSON Schema for editors
// and the documentation are all made from; so there is no key that one of them knows and
// another does not.
package spec
