package tunnel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// The supervisor's dealings with its worker: start, words both ways, end.

// What a worker finds among its descriptors.
const (
	workerLinkFD = 3
	workerLockFD = 4 // DIR/tunnel.lock, held and never touched; see takeLock
)

const (
	firstPause  = 100 * time.Millisecond // after the second early end in a row
	longPause   = 10 * time.Second
	steadyAfter = time.Minute // a worker that lived this long may be restarted at once
)

// backoff returns how long to wait before the next worker, when the last n ended early.
func backoff(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(firstPause<<min(n-2, 10), longPause)
}

// startWorker starts a worker and gives it all interfaces.
func (s *supervisor) startWorker() {
	trimLog(s.Dir)
	w, err := s.execWorker()
	if err != nil {
		s.workerEnded(time.Now(), err)
		return
	}
	s.worker = w
	for _, i := range s.interfaces {
		s.tell(message{Op: opAdd, Name: i.name, Config: i.config}, i.tun, i.uapi)
	}
}

func (s *supervisor) execWorker() (*worker, error) {
	ours, theirs, err := linkPair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.Worker[0], s.Worker[1:]...)
	cmd.Args[0] = argv0()
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, s.lock} // workerLinkFD, workerLockFD
	err = cmd.Start()
	theirs.Close() // or the end of the worker would never be read
	if err != nil {
		ours.conn.Close()
		return nil, fmt.Errorf("start worker: %w", err)
	}
	go s.listen(ours, cmd) // joined by its last report
	return &worker{link: ours, kill: cmd.Process.Kill, started: time.Now()}, nil
}

// listen forwards the worker's messages, among them those that a dead one left in the
// socket, and at last reports its end.
func (s *supervisor) listen(l *link, cmd *exec.Cmd) {
	var broken error
	for {
		m, _, err := l.receive()
		if err != nil {
			broken = err
			break
		}
		s.reports <- report{message: m}
	}
	_ = cmd.Process.Kill() // it has ended, or talks nonsense
	err := cmd.Wait()
	if err == nil {
		err = broken
	}
	l.conn.Close()
	s.reports <- report{ended: true, err: err}
}

// tell sends the worker a message that it will answer. Without a worker it does nothing:
// the next one is given everything.
func (s *supervisor) tell(m message, fds ...int) {
	if s.worker == nil {
		return
	}
	s.stuck.Reset(answerTime)
	if err := s.worker.link.send(m, fds...); err != nil {
		_ = s.worker.kill() // its end is reported by listen
	}
}

// hear takes in what the worker said.
func (s *supervisor) hear(r report) {
	if r.ended {
		s.workerEnded(s.worker.started, r.err)
		return
	}
	if i := s.interfaces[r.Name]; i != nil {
		s.hearOf(i, r.message)
	}
	s.stuck.Stop()
	for _, i := range s.interfaces {
		if i.phase != added {
			s.stuck.Reset(answerTime)
			break
		}
	}
}

func (s *supervisor) hearOf(i *iface, m message) {
	switch {
	case m.Op == opConfig:
		i.config = m.Config
	case m.Op == opAdded && m.Error != "":
		s.Log.Error("worker could not open the device", "interface", i.name, "error", m.Error)
		i.answer(replyError(errors.New(m.Error)))
		s.drop(i)
	case m.Op == opAdded && i.phase == removing:
		s.tell(message{Op: opRemove, Name: i.name})
	case m.Op == opAdded:
		i.phase = added
		i.answer(reply{})
	case m.Op == opRemoved && i.phase == removing:
		s.drop(i)
	case m.Op == opGone && i.phase != added:
		// It is being removed, and the worker's answer to that is still to come.
	case m.Op == opGone && i.attached():
		s.Log.Error("device ended by itself, opening it again", "interface", i.name)
		i.phase = adding
		i.restarts++
		s.tell(message{Op: opAdd, Name: i.name, Config: i.config}, i.tun, i.uapi)
	case m.Op == opGone:
		s.Log.Warn("interface was deleted from outside", "interface", i.name)
		s.drop(i)
	}
}

// workerEnded arranges for the next worker.
func (s *supervisor) workerEnded(started time.Time, err error) {
	s.worker = nil
	s.stuck.Stop()
	if time.Since(started) > steadyAfter {
		s.crashes = 0
	}
	s.crashes++
	wait := backoff(s.crashes)
	s.Log.Warn("worker ended", "error", err, "interfaces", len(s.interfaces), "restart_in", wait)
	s.restart.Reset(wait)
	for _, i := range s.interfaces {
		switch i.phase {
		case added:
			i.phase = adding
			i.restarts++
		case removing:
			s.drop(i)
		}
	}
}

// endTime is how long a worker may take to end by itself.
const endTime = 5 * time.Second

// end ends the worker and releases everything.
func (s *supervisor) end() {
	if s.worker != nil {
		_ = s.worker.link.conn.CloseWrite()
		late := time.AfterFunc(endTime, func() { _ = s.worker.kill() })
		for r := range s.reports {
			if r.ended {
				break
			}
		}
		late.Stop()
	}
	for _, i := range s.interfaces {
		i.release(i.name)
		i.answer(reply{Ending: true})
		for _, c := range i.next {
			c.reply <- reply{Ending: true}
		}
	}
	for _, c := range s.stops {
		c.reply <- reply{}
	}
}
