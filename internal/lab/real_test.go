package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestX(t *testing.T) {
	start := time.Now()
	l, err := Up(context.Background(), Config{
		Name: fmt.Sprintf("t%d", os.Getpid()), Routers: home(), Command: []string{"/proc/self/exe", "serve"},
		Progress: func(e Event) { t.Logf("%6.3f %+v", time.Since(start).Seconds(), e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(start))
	nodes, _ := l.Nodes()
	for _, n := range nodes {
		t.Logf("%+v", n)
	}
	b, _ := os.ReadFile(l.Dir() + "/hosts")
	t.Log(string(b))
	for _, to := range []string{"op3", "inet"} {
		n, _ := l.Node(to)
		for _, a := range []Echo{{To: n.Addr()}, {To: n.Addr6()}} {
			d, err := l.Ping(context.Background(), "op2", a)
			t.Log(to, a.To, d, err)
		}
	}
	start = time.Now()
	if err := Down(context.Background(), l.Name()); err != nil {
		t.Fatal(err)
	}
	t.Log("down", time.Since(start))
}
