package babel

import "tombolo/internal/babel/wire"

// Displacement says that another door took an attached key over.
type Displacement struct {
	Key
	By        wire.RouterID
	Contested bool // it may be here still: the other door did not know that we had it
}

// Attach says that the device of some keys has completed a new handshake here.
func (*Speaker) Attach(Time, []Key, string) Output { return Output{} }

// Resume says that it was here when the agent began: nobody is displaced by that.
func (*Speaker) Resume(Time, []Key, string) Output { return Output{} }

// Detach says that it is gone.
func (*Speaker) Detach(Time, []Key) Output { return Output{} }
