// Package enroll lets a device into a network: it writes the device into the network file,
// and the configuration that the device needs.
//
// A network file is its owner's. Set, Remove and SetKey change its text at the places where
// YAML's nodes stand, and nothing else of it: comments, blank lines, order and layout stay
// byte for byte. Each change is made twice, in the text and in the tree of nodes that was
// read from it; unless the changed text reads as the changed tree, and as a network file
// without mistakes, there is an error and no text (page.go, edit.go).
//
// A configuration is what wg-quick and the apps read (config.go). Its digest stands in the
// file, so that it is seen when a device's is no longer the one that it would get now.
package enroll
