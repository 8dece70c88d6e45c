// Package vm runs tests on Debian's own kernel, in a small emulated machine: `make vm`.
//
// vm/run makes the machine and starts it, vm/init is its first process, vm/cases says which
// tests run there. The tests of this package (build tag vm) are those that make no sense on
// a kernel without WireGuard. They make their own namespaces instead of a lab, because a lab
// is itself a process of ours.
//
// The guest's clock counts instructions and not seconds (QEMU's -icount), and jumps where
// the guest sleeps. So what takes long on a busy machine takes no longer inside, and a test
// that sleeps costs nothing.
package vm
