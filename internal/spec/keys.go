package spec

import "fmt"

// MissingKeys returns an Error for each site whose public key the router of the given site
// needs and the file does not have; with site -1, for every site without a key. A file
// without keys is right as a file, so Parse does not say this.
//
// The text is that of the file, for excerpts; it may be nil.
func (n *Network) MissingKeys(site int, text []byte) Diagnostics {
	r := &report{src: &source{file: n.File, text: string(text)}}
	for i := range n.Sites {
		s := &n.Sites[i]
		if !s.Key.IsZero() || i == site {
			continue
		}
		if site < 0 {
			r.err(s.Pos, codeMissingPublicKey, keyHint(s), "site %q has no `key:`", s.Name)
			continue
		}
		if n.CanLink(site, i) && !n.Links.Options(site, i).NoTunnel {
			r.err(s.Pos, codeMissingPublicKey, keyHint(s), "site %q has no `key:`, which %q needs for the link between them", s.Name, n.Sites[site].Name)
		}
	}
	return r.sorted()
}

func keyHint(s *Site) string {
	if s.Kind == Plain {
		return fmt.Sprintf("add its WireGuard public key to site %q; `wg show` on that router prints it", s.Name)
	}
	return fmt.Sprintf("type `tombolo key make %s` on that router, and add the `key:` line that it prints to site %q", s.Name, s.Name)
}
