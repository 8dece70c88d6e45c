package interop

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// joinSlowly is join over a way that takes a time: two TAP devices, and we between them.
func joinSlowly(a, b *node, link int, delay time.Duration) {
	a.T.Helper()
	ends := []*os.File{a.Tun(device(link), unix.IFF_TAP), b.Tun(device(link), unix.IFF_TAP)}
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
