package kernel

import (
	"errors"
	"fmt"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// keyNames finds the Refs of keys that a device reports. It reads a key file once, and
// looks through all of them only for a key that is not the wanted one.
type keyNames struct {
	store        key.Store
	privates     map[key.Ref]key.Private
	presharedOf  map[key.Ref]key.Preshared
	byPublic     map[key.Public]key.Ref
	presharedRef map[key.Preshared]key.Ref
}

// private returns the Ref of a private key, wanted if it may be; empty where no file holds
// the key, and where there is none.
func (n *keyNames) private(p key.Private, wanted key.Ref) key.Ref {
	if p.IsZero() {
		return ""
	}
	if wanted != "" && cached(&n.privates, wanted, n.store.Private) == p {
		return wanted
	}
	if n.byPublic == nil {
		n.byPublic = n.store.PrivateRefs()
	}
	return n.byPublic[p.Public()]
}

// preshared returns the Ref of a preshared key, wanted if it may be; empty where there is
// no key, state.UnknownKey where no file holds it.
func (n *keyNames) preshared(p key.Preshared, wanted key.Ref) key.Ref {
	if p.IsZero() {
		return ""
	}
	if wanted != "" && cached(&n.presharedOf, wanted, n.store.Preshared) == p {
		return wanted
	}
	if n.presharedRef == nil {
		n.presharedRef = n.store.PresharedRefs()
	}
	if ref, ok := n.presharedRef[p]; ok {
		return ref
	}
	return state.UnknownKey
}

// cached returns a key of the store, the zero key where its file cannot be read: it is
// then none of those that a device has.
func cached[K any](m *map[key.Ref]K, ref key.Ref, read func(key.Ref) (K, error)) K {
	if k, ok := (*m)[ref]; ok {
		return k
	}
	if *m == nil {
		*m = map[key.Ref]K{}
	}
	k, _ := read(ref)
	(*m)[ref] = k
	return k
}

// keptKeys are keys that no file holds, remembered while one Apply runs so that it can be
// undone.
type keptKeys struct {
	private   map[key.Public]key.Private
	preshared map[peerAt]key.Preshared
}

type peerAt struct {
	device string
	peer   key.Public
}

// remember keeps the keys that the operation takes away and no file holds.
func (a *application) remember(op plan.Op) error {
	var name string
	switch o := op.Before.(type) {
	case plan.Interface:
		if !unknownKeys(o.WireGuard) {
			return nil
		}
		name = o.Name
	case plan.Peer:
		if o.Preshared != state.UnknownKey {
			return nil
		}
		name = o.Interface
	default:
		return nil
	}
	l, err := a.findOurs(name)
	if err != nil {
		return err
	}
	d, err := a.device(l)
	if err != nil || d == nil {
		return err
	}
	if a.kept.private == nil {
		a.kept = keptKeys{private: map[key.Public]key.Private{}, preshared: map[peerAt]key.Preshared{}}
	}
	private := key.PrivateFrom(d.PrivateKey)
	a.kept.private[private.Public()] = private
	for _, p := range d.Peers {
		at := peerAt{name, key.Public(p.PublicKey)}
		if _, kept := a.kept.preshared[at]; !kept { // what it was first
			a.kept.preshared[at] = key.PresharedFrom(p.PresharedKey)
		}
	}
	return nil
}

// unknownKeys reports whether a device has a key that no file holds.
func unknownKeys(w *state.WireGuard) bool {
	if w == nil {
		return false
	}
	for _, p := range w.Peers {
		if p.Preshared == state.UnknownKey {
			return true
		}
	}
	return w.PrivateKey == "" && !w.PublicKey.IsZero()
}

// private returns the private key of a wanted device.
func (a *application) private(w state.WireGuard) (key.Private, error) {
	if w.PrivateKey == "" && w.PublicKey.IsZero() {
		return key.Private{}, nil // none, as it was
	}
	if w.PrivateKey == "" {
		p, kept := a.kept.private[w.PublicKey]
		if !kept {
			return p, errors.New("no file holds its private key")
		}
		return p, nil
	}
	p, err := a.options.Store.Private(w.PrivateKey)
	if err != nil {
		return key.Private{}, err
	}
	if have := p.Public(); !w.PublicKey.IsZero() && have != w.PublicKey {
		return key.Private{}, fmt.Errorf("private key %s belongs to public key %s, and not to %s", w.PrivateKey, have, w.PublicKey)
	}
	return p, nil
}

// preshared returns the preshared key of a wanted peer.
func (a *application) preshared(p plan.Peer) (key.Preshared, error) {
	if p.Preshared != state.UnknownKey {
		return a.options.Store.Preshared(p.Preshared)
	}
	k, ok := a.kept.preshared[peerAt{p.Interface, p.PublicKey}]
	if !ok {
		return k, errors.New("no file holds its preshared key")
	}
	return k, nil
}
