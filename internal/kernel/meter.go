package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Counter is what a device has carried since it was made.
type Counter struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64 // of the device's own packets: inner ones, for a tunnel
}

// Meter reads the counters of devices. It serves one goroutine, which need not be that of
// the Kernel, on any thread.
//
// It reads /proc/net/dev, which has names and counters in one: with fifty devices 0.07 ms,
// where RTM_GETLINK takes 0.2. RTM_GETSTATS takes 0.02, but knows devices by index only.
type Meter struct {
	file *os.File
	buf  []byte
}

// OpenMeter returns a Meter for the network namespace of the calling thread, and of no
// other later: an open file of /proc/net stays in it (fs/proc/proc_net.c).
func OpenMeter() (*Meter, error) {
	f, err := os.Open("/proc/thread-self/net/dev")
	if err != nil {
		return nil, fmt.Errorf("open the counters of devices: %w", err)
	}
	return &Meter{file: f, buf: make([]byte, 16<<10)}, nil
}

// Close ends it.
func (m *Meter) Close() { _ = m.file.Close() }

// Counters returns the counters of every device, by name.
func (m *Meter) Counters() (map[string]Counter, error) {
	n := 0
	for {
		if n == len(m.buf) {
			m.buf = append(m.buf, make([]byte, len(m.buf))...)
		}
		got, err := m.file.ReadAt(m.buf[n:], int64(n))
		n += got
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the counters of devices: %w", err)
		}
	}
	return decodeCounters(m.buf[:n])
}

// Columns of /proc/net/dev behind the name (net/core/net-procfs.c).
const (
	columnRxBytes   = 0
	columnRxPackets = 1
	columnTxBytes   = 8
	columnTxPackets = 9
)

// decodeCounters reads /proc/net/dev: two lines of heading, then "name: numbers" for each
// device. A name has no colon (net/core/dev.c, dev_valid_name).
func decodeCounters(b []byte) (map[string]Counter, error) {
	out := make(map[string]Counter, bytes.Count(b, []byte{'\n'}))
	line := 0
	for len(b) > 0 {
		var row []byte
		row, b, _ = bytes.Cut(b, []byte{'\n'})
		if line++; line <= 2 || len(row) == 0 {
			continue
		}
		name, numbers, ok := bytes.Cut(row, []byte{':'})
		var c Counter
		column := 0
		for ; ok && column <= columnTxPackets; column++ {
			var v uint64
			if v, numbers, ok = decimal(numbers); !ok {
				break
			}
			switch column {
			case columnRxBytes:
				c.RxBytes = v
			case columnRxPackets:
				c.RxPackets = v
			case columnTxBytes:
				c.TxBytes = v
			case columnTxPackets:
				c.TxPackets = v
			}
		}
		if !ok {
			return nil, fmt.Errorf("the counters of devices have a line %q", row)
		}
		out[string(bytes.TrimLeft(name, " "))] = c
	}
	return out, nil
}

// decimal reads a number behind spaces.
func decimal(b []byte) (v uint64, rest []byte, ok bool) {
	b = bytes.TrimLeft(b, " ")
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		v = v*10 + uint64(b[i]-'0')
	}
	return v, b[i:], i > 0
}
