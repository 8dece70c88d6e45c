package cli

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// configuration is what a QR code carries, of about n bytes.
func configuration(n int) string {
	text := "[Interface]\nPrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nAddress = 10.0.31.10/32, fd5e:1f0c:8a34:ffff::a00:1f0a/128\n\n[Peer]\nAllowedIPs = ::/0"
	for i := 0; len(text) < n; i++ {
		text += ", 10." + strconv.Itoa(i%256) + ".0.0/16"
	}
	return text + "\n"
}

// scan reads a picture of a QR code with a program that is not ours.
func scan(t *testing.T, picture []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "code.png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := exec.Command("zbarimg", "--quiet", "--raw", "--oneshot", "-Sbinary", "-Sdisable", "-Sqrcode.enable", file)
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("zbarimg (package zbar-tools): %v: %s", err, said.String())
	}
	return string(out)
}

// paint draws modules as a picture, on a ground of another colour.
func paint(t *testing.T, rows [][]bool, ground color.Gray) []byte {
	t.Helper()
	const scale, margin = 4, 20
	size := scale*len(rows) + 2*margin
	m := image.NewGray(image.Rect(0, 0, size, size))
	for i := range m.Pix {
		m.Pix[i] = ground.Y
	}
	for y, row := range rows {
		for x, dark := range row {
			c := color.Gray{Y: 255}
			if dark {
				c = color.Gray{}
			}
			for i := range scale * scale {
				m.SetGray(margin+scale*x+i%scale, margin+scale*y+i/scale, c)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A code reads as the configuration's very bytes, whatever it is drawn on.
func TestCodesReadAsTheConfiguration(t *testing.T) {
	for _, size := range []int{0, 345, 1200} {
		text := configuration(size)
		picture, err := qrPNG(text)
		if err != nil {
			t.Fatal(err)
		}
		drawing, err := qrSVG(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := scan(t, picture); got != text {
			t.Errorf("the PNG of %d bytes reads as\n%q", len(text), got)
		}
		for _, ground := range []color.Gray{{Y: 0}, {Y: 255}} {
			for name, rows := range map[string][][]bool{"SVG": modulesOfSVG(t, string(drawing)), "terminal's": modulesOfTerminal(t, text)} {
				if got := scan(t, paint(t, rows, ground)); got != text {
					t.Errorf("the %s of %d bytes on %d reads as\n%q", name, len(text), ground.Y, got)
				}
			}
		}
	}
}

// modulesOfTerminal does what a terminal does with half blocks.
func modulesOfTerminal(t *testing.T, text string) [][]bool {
	t.Helper()
	code, columns, err := qrTerminal(text)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]bool
	for line := range strings.Lines(code) {
		line, begins := strings.CutPrefix(line, whiteOnBlack)
		line, ends := strings.CutSuffix(line, plainAgain+"\n")
		var upper, lower []bool
		for _, r := range line {
			upper, lower = append(upper, r == ' ' || r == '▄'), append(lower, r == ' ' || r == '▀')
		}
		if !begins || !ends || len(upper) != columns {
			t.Fatalf("a line of %d columns, want %d: %q", len(upper), columns, line)
		}
		rows = append(rows, upper, lower)
	}
	return rows
}

var bar = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`)

func modulesOfSVG(t *testing.T, drawing string) [][]bool {
	t.Helper()
	size := regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`).FindStringSubmatch(drawing)
	if size == nil || size[1] != size[2] {
		t.Fatalf("no square: %s", drawing)
	}
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	rows := make([][]bool, number(size[1]))
	for i := range rows {
		rows[i] = make([]bool, len(rows))
	}
	for _, m := range bar.FindAllStringSubmatch(drawing, -1) {
		for i := range number(m[3]) {
			rows[number(m[2])][number(m[1])+i] = true
		}
	}
	return rows
}

func TestTooMuchForACode(t *testing.T) {
	text := configuration(2954) // a code of the largest version has 2953 bytes
	for _, draw := range []func(string) ([]byte, error){qrPNG, qrSVG} {
		if _, err := draw(text); err == nil || !strings.Contains(err.Error(), "has no room in a QR code") {
			t.Errorf("error %v", err)
		}
	}
}
