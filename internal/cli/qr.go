package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the empty space around a QR code in modules (ISO/IEC 18004).
const quiet = 4

// qrCode makes the smallest code of a text: what it is on is clean, so that the lowest level
// of correction will do.
func qrCode(text string) (*qr.Code, error) {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, fmt.Errorf("a configuration of %d bytes has no room in a QR code", len(text))
	}
	return c, nil
}

func qrPNG(text string) ([]byte, error) {
	c, err := qrCode(text)
	if err != nil {
		return nil, err
	}
	png := c.PNG() // with its quiet space
	if png == nil {
		return nil, errors.New("draw QR code: there is no picture")
	}
	return png, nil
}

// qrSVG draws the dark modules of each row as bars, in one path.
func qrSVG(text string) ([]byte, error) {
	c, err := qrCode(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	size := c.Size + 2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" shape-rendering="crispEdges">`+"\n", size, size, 8*size, 8*size)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n"+`<path fill="#000" d="`, size, size)
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			from := x
			for x < c.Size && c.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	b.WriteString("\"/>\n</svg>\n")
	return b.Bytes(), nil
}

// Colours of a code on a terminal, whatever its own are: a scanner wants dark on light.
const (
	whiteOnBlack = "\x1b[38;5;231;48;5;16m"
	plainAgain   = "\x1b[0m"
)

// qrTerminal draws a code with half blocks, two modules in a character, and says how many
// columns it takes.
func qrTerminal(text string) (code string, columns int, err error) {
	c, err := qrCode(text)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		b.WriteString(whiteOnBlack)
		for x := -quiet; x < c.Size+quiet; x++ {
			switch { // outside of the code all is white
			case c.Black(x, y) && c.Black(x, y+1):
				b.WriteByte(' ')
			case c.Black(x, y):
				b.WriteString("▄")
			case c.Black(x, y+1):
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteString(plainAgain + "\n")
	}
	return b.String(), c.Size + 2*quiet, nil
}
