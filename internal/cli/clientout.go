package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// placeholder stands where a private key would, which only the device has.
const placeholder = "<the private key, which only the device has>"

// confText returns a configuration, with the private key if that is known.
func confText(c enroll.Config, private key.Private) string {
	if private.IsZero() {
		return c.Text(placeholder)
	}
	return c.Text(private.RevealText())
}

// forCodes refuses to draw codes that no app takes, for want of a private key.
func (h *handout) forCodes(name string, private key.Private) error {
	if private.IsZero() && (h.png != "" || h.svg != "" || h.qr) {
		return hinted{errors.New("a QR code needs the private key, which only the device has"), fmt.Sprintf("--conf FILE writes the configuration without it; tombolo client rekey %s makes a new key", name)}
	}
	return nil
}

// stock is the files of a handout.
type stock []staged

// drop removes those that were not committed.
func (s stock) drop() {
	for _, f := range s {
		f.drop()
	}
}

// stage writes the files that were asked for beside their places.
func (h *handout) stage(configs []enroll.Config, private key.Private) (out stock, err error) {
	defer func() {
		if err != nil {
			out.drop()
		}
	}()
	for _, c := range configs {
		text := confText(c, private)
		for _, w := range []struct {
			path string
			make func(text string) ([]byte, error)
		}{
			{h.conf, func(text string) ([]byte, error) { return []byte(text), nil }},
			{h.png, qrPNG},
			{h.svg, qrSVG},
		} {
			if w.path == "" {
				continue
			}
			content, err := w.make(text)
			if err != nil {
				return out, err
			}
			path := w.path
			if len(configs) > 1 {
				ext := filepath.Ext(path)
				path = strings.TrimSuffix(path, ext) + "-" + c.Door + ext
			}
			f, err := stageFile(path, content, 0o600)
			if err != nil {
				return out, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// commit puts the files in their places.
func (s stock) commit() (paths []string, err error) {
	for _, f := range s {
		if e := f.commit(); e != nil {
			err = errors.Join(err, e)
			continue
		}
		paths = append(paths, f.path)
	}
	return paths, err
}

// given is a configuration as it is shown to programs.
type given struct {
	Door          string `json:"door"`
	Endpoint      string `json:"endpoint"`
	Digest        string `json:"digest"`
	Configuration string `json:"configuration"`
}

// handOut prints a device's configurations, and puts its files in their places.
func (a *app) handOut(r *roster, d *spec.Device, configs []enroll.Config, private key.Private, h handout, files stock) error {
	paths, filesErr := files.commit()
	for _, p := range paths {
		a.say("wrote %s", p)
	}
	if a.json {
		out := struct {
			shownDevice
			Configurations []given  `json:"configurations"`
			Files          []string `json:"files,omitempty"`
		}{shownDevice: showDevice(r.Network, d), Files: paths}
		for _, c := range configs {
			out.Configurations = append(out.Configurations, given{c.Door, c.Endpoint, c.Digest(), confText(c, private)})
		}
		return errors.Join(a.writeJSON(out), filesErr)
	}
	var b strings.Builder
	for i, c := range configs {
		if i > 0 {
			b.WriteString("\n")
		}
		if len(configs) > 1 {
			fmt.Fprintf(&b, "# by %s\n", c.Door)
		}
		text := confText(c, private)
		b.WriteString(text)
		if !private.IsZero() && (h.qr || isTerminal(a.out)) {
			b.WriteString(a.qrText(text))
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return errors.Join(err, filesErr)
}

// qrText returns a configuration's QR code for a terminal, or nothing where it has no room.
func (a *app) qrText(text string) string {
	code, columns, err := qrTerminal(text)
	if err != nil {
		a.say("note: %v: give it to the device as a file (--conf)", err)
		return ""
	}
	if f, ok := a.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && width < columns {
			a.say("note: the QR code is %d columns wide, and the terminal %d: --png FILE draws it", columns, width)
			return ""
		}
	}
	return "\n" + code
}
