package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"tombolo/internal/key"
)

func (a *app) keyCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "key",
		Short: "Make keys, and show their public halves",
		Long: `Make keys, and show their public halves. A private key lies in a file of mode 0600 that
is named after its site, in ./keys where that exists, else in /etc/tombolo, and is printed
by "key export" alone. The network file holds only public keys.`,
	}
	c.PersistentFlags().StringVar(&dir, "keys", "", "folder of the key files (default: ./keys where it exists, else /etc/tombolo)")
	store := func() key.Store { return key.Store{Dir: keyDir(dir, "network.yaml")} }
	c.AddCommand(a.keyMakeCommand(store), a.keyShowCommand(store), a.keyPskCommand(store), a.keyMacCommand(store),
		a.keyExportCommand(store), a.keyImportCommand(store))
	return c
}

func (a *app) keyMakeCommand(store func() key.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "make SITE",
		Short: "Make the private key of a site, if it has none, and print its key: line",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := fileName(args[0]); err != nil {
				return err
			}
			p, made, err := store().Make(key.Ref(args[0]), rand.Reader)
			if err != nil {
				return err
			}
			if made {
				a.say("made %s", filepath.Join(store().Dir, args[0]+".key"))
			}
			return a.printKey(args[0], p.Public())
		},
	}
}

func (a *app) keyShowCommand(store func() key.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "show SITE",
		Short: "Print the public key of a site whose private key lies here",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := fileName(args[0]); err != nil {
				return err
			}
			p, err := store().Private(key.Ref(args[0]))
			if errors.Is(err, key.ErrMissing) {
				return hinted{fmt.Errorf("%s has no private key of %q", store().Dir, args[0]), "tombolo key make " + args[0]}
			}
			if err != nil {
				return err
			}
			return a.printKey(args[0], p.Public())
		},
	}
}

func (a *app) keyPskCommand(store func() key.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "psk SITE SITE",
		Short: "Make the preshared key of a link, to be copied to both routers",
		Long: `Make the preshared key of a link whose options say psk: true. The same file must lie on
both routers, mode 0600; copy it there, for example with scp -p.`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := errors.Join(fileName(args[0]), fileName(args[1])); err != nil {
				return err
			}
			ref := key.LinkRef(args[0], args[1])
			_, made, err := store().MakePreshared(ref, rand.Reader)
			if err != nil {
				return err
			}
			return a.printKeyFile(filepath.Join(store().Dir, string(ref)+".psk"), made)
		},
	}
}

func (a *app) keyMacCommand(store func() key.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "mac NAME",
		Short: "Make a key with which the Babel routers on a segment sign their packets",
		Long: `Make the key that key: NAME of a site's babel: names. The same file must lie on every
router of the segment, mode 0600; copy it there, for example with scp -p. For babeld and
BIRD, whose keys are hexadecimal, base64 -d NAME.mac | xxd -p -c 32 prints it; the
algorithm is HMAC-SHA256.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := fileName(args[0]); err != nil {
				return err
			}
			_, made, err := store().MakeMAC(key.Ref(args[0]), rand.Reader)
			if err != nil {
				return err
			}
			return a.printKeyFile(filepath.Join(store().Dir, args[0]+".mac"), made)
		},
	}
}

// printKeyFile says where a key lies that is copied as a file.
func (a *app) printKeyFile(path string, made bool) error {
	if a.json {
		return a.writeJSON(map[string]any{"path": path, "made": made})
	}
	_, err := fmt.Fprintln(a.out, path)
	return err
}

func (a *app) printKey(site string, k key.Public) error {
	if a.json {
		return a.writeJSON(map[string]string{"site": site, "key": k.String()})
	}
	_, err := fmt.Fprintf(a.out, "key: %s\n", k)
	return err
}

// fileName refuses a name that would lead out of the key folder.
func fileName(name string) error {
	if name == "" || name != filepath.Base(name) || name[0] == '.' {
		return fmt.Errorf("%q is no name of a site or a key", name)
	}
	return nil
}
