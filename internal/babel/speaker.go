package babel

// Speaker is a Babel router. It serves one goroutine. Every method that takes a time
// returns what is to be done now; after each, Next may have changed.
type Speaker struct {
	config Config
}

// New returns a speaker whose links are all down and which announces nothing. seed makes
// its jitter and nonces; it should be random, but for tests.
func New(now Time, c Config, seed uint64) *Speaker { return &Speaker{config: c} }

// Handle takes a packet in.
func (s *Speaker) Handle(now Time, p Packet) Output { return Output{} }

// Tick does what is due. To call it too early does nothing.
func (s *Speaker) Tick(now Time) Output { return Output{} }

// Next returns when Tick must be called at the latest.
func (s *Speaker) Next() Time { return 1 << 62 }

// SetLink says that a link of the configuration can be sent on, or no longer. A link that
// comes up again is a new one.
func (s *Speaker) SetLink(now Time, link string, up bool) Output { return Output{} }

// Traffic says how many packets a link has carried so far, both ways and with the
// speaker's own, by any counter that only grows. The host calls it a few times a second.
func (s *Speaker) Traffic(now Time, link string, packets uint64) Output { return Output{} }

// Overdue says that a tunnel has sent and waits too long for its handshake, or no longer
// does.
func (s *Speaker) Overdue(now Time, link string, overdue bool) Output { return Output{} }

// Announce replaces the set of what this router originates.
func (s *Speaker) Announce(now Time, own []Announcement) Output { return Output{} }

// Configure replaces the configuration, but for its RouterID and Seqno. Links that stay
// keep their neighbours; new ones are down.
func (s *Speaker) Configure(now Time, c Config) Output { return Output{} }

// Retract says goodbye: it retracts all that was announced, on every link, once. For a
// router that is taken down, not for one whose speaker will start again.
func (s *Speaker) Retract(now Time) Output { return Output{} }

// View returns what the speaker knows.
func (s *Speaker) View() View { return View{} }
