package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Start starts a command inside a node: in its network, mount and UTS namespaces. A
// command without a directory gets the caller's, or where the node does not see that, /.
//
// The thread that starts it ends at once: SysProcAttr.Pdeathsig, which tells of the end
// of that thread, must not be set.
func (l *Lab) Start(ctx context.Context, node string, cmd *exec.Cmd) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	a, err := l.ask(ctx, command{Do: doEnter, Node: n.Name})
	if err != nil {
		return err
	}
	defer a.node.close()
	here := cmd.Dir
	if here == "" {
		here, _ = os.Getwd() // what is not there, the node does not see
	}
	return a.node.do(func() error {
		if cmd.Dir == "" {
			cmd.Dir = "/"
			if st, err := os.Stat(here); err == nil && st.IsDir() {
				cmd.Dir = here
			}
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("run %s in %s: %w", cmd.Path, n.Name, err)
		}
		return nil
	})
}

// Run runs a command inside a node, as Start starts it, and waits for its end. Its error
// is that of exec.Cmd's Run.
func (l *Lab) Run(ctx context.Context, node string, cmd *exec.Cmd) error {
	if err := l.Start(ctx, node, cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// Do calls f on a thread inside a node, which ends with f. Goroutines that f starts run
// outside, sockets that it opens stay inside.
func (l *Lab) Do(ctx context.Context, node string, f func() error) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	a, err := l.ask(ctx, command{Do: doEnter, Node: n.Name})
	if err != nil {
		return err
	}
	defer a.node.close()
	return a.node.do(f)
}
