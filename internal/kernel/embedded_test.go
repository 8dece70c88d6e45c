package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tailscale/wireguard-go/conn"
	"github.com/tailscale/wireguard-go/device"
	"github.com/tailscale/wireguard-go/ipc"
	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// fakeEmbedded is wireguard-go in the test's own process, in the test's namespace.
type fakeEmbedded struct {
	t       testing.TB
	ns      *os.File
	devices map[string]*fakeDevice
	adds    int
}

type fakeDevice struct {
	device   *device.Device
	listener net.Listener
	served   sync.WaitGroup
}

func newFakeEmbedded(t testing.TB) *fakeEmbedded {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEmbedded{t: t, ns: ns, devices: map[string]*fakeDevice{}}
	t.Cleanup(func() {
		for name := range e.devices {
			e.close(name)
		}
		// ns stays open: a device's goroutines may still look at it.
	})
	return e
}

func (e *fakeEmbedded) Add(_ context.Context, name string, mtu int) error {
	e.adds++
	inner, err := tun.CreateTUN(name, mtu)
	if err != nil {
		return err
	}
	d := &fakeDevice{device: device.NewDevice(
		&nsTUN{inner, e.ns}, &nsBind{conn.NewStdNetBind(), e.ns},
		device.NewLogger(device.LogLevelSilent, ""))}
	file, err := ipc.UAPIOpen(name)
	if err == nil {
		d.listener, err = ipc.UAPIListen(name, file)
	}
	if err != nil {
		d.device.Close()
		return err
	}
	d.served.Go(func() {
		for {
			c, err := d.listener.Accept()
			if err != nil {
				return
			}
			d.served.Go(func() { d.device.IpcHandle(c) })
		}
	})
	e.devices[name] = d
	return nil
}

func (e *fakeEmbedded) Remove(_ context.Context, name string) error {
	if e.devices[name] == nil {
		return errors.New("no such device")
	}
	e.close(name)
	return nil
}

func (e *fakeEmbedded) close(name string) {
	d := e.devices[name]
	delete(e.devices, name)
	d.listener.Close()
	d.device.Close()
}

// within runs f in a namespace, on a thread that ends.
func within(ns *os.File, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("enter namespace: %v", err))
		}
		f()
	}()
	<-done
}

// nsBind opens its sockets in the namespace: wireguard-go does so from any thread.
type nsBind struct {
	conn.Bind
	ns *os.File
}

func (b *nsBind) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	within(b.ns, func() { fns, actual, err = b.Bind.Open(port) })
	return fns, actual, err
}

// nsTUN asks for its MTU in the namespace.
type nsTUN struct {
	tun.Device
	ns *os.File
}

func (d *nsTUN) MTU() (mtu int, err error) {
	within(d.ns, func() { mtu, err = d.Device.MTU() })
	return mtu, err
}

// eventually waits until what an embedded device does in its own time is done.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}
