package interop

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// joinSlowly is join over a way that takes a time: two TAP devices, and we between them.
func joinSlowly(a, b *space, link int, delay time.Duration) {
	a.t.Helper()
	ends := []*os.File{a.tap(device(link)), b.tap(device(link))}
	a.address(device(link), link, false)
	b.address(device(link), link, false)
	for i := range ends {
		from, to := ends[i], ends[1-i]
		type frame struct {
			at    time.Time
			bytes []byte
		}
		way := make(chan frame, 1000)
		go func() { // until the file is closed
			defer close(way)
			for {
				b := make([]byte, 2000)
				n, err := from.Read(b)
				if err != nil {
					return
				}
				way <- frame{time.Now(), b[:n]}
			}
		}()
		go func() {
			for f := range way {
				time.Sleep(time.Until(f.at.Add(delay)))
				_, _ = to.Write(f.bytes) // what the device refuses is lost
			}
		}()
	}
	a.reaches(b, link)
}

// tap makes a TAP device and returns its other side.
func (s *space) tap(name string) *os.File {
	s.t.Helper()
	var file *os.File
	var err error
	s.in(func() {
		var fd int
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return
		}
		var request *unix.Ifreq
		if request, err = unix.NewIfreq(name); err != nil {
			return
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err == nil {
			file = os.NewFile(uintptr(fd), name) // not before: the poller would see an error
		}
	})
	if err != nil {
		s.t.Fatalf("make a TAP device: %v", err)
	}
	s.t.Cleanup(func() { file.Close() })
	return file
}
