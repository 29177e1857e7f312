package trace_test

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestThroughAContainer sends a connection from one process of a host into
// another network namespace of it and back out by a third process, as proxies
// of container runtimes do.
func TestThroughAContainer(t *testing.T) {
	l := newLab(t, "h1", "h2")
	me := l.investigator()
	h1, h2 := l.hosts[0], l.hosts[1]
	if out, err := h1.run("unshare -n sleep infinity >/dev/null 2>&1 & box=$!; sleep 0.2; ip link add box0 type veth peer name eth0 netns $box" +
		" && ip addr add 172.17.0.1/24 dev box0 && ip link set box0 up && nsenter -t $box -n sh -c '" +
		"ip addr add 172.17.0.2/24 dev eth0 && ip link set eth0 up' && echo $box > " + filepath.Join(l.dir, "box")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h1.daemon(me)
	h2.daemon(me)
	port := l.attacked(9000, func() {
		h1.start("exec socat TCP-LISTEN:9001,bind=172.17.0.1 TCP:" + victimAddr + ":9000")
		h1.await(9001)
		h1.start("exec nsenter -t $(cat " + filepath.Join(l.dir, "box") + ") -n socat TCP-LISTEN:80 TCP:172.17.0.1:9001")
		h1.until("the box listens", "nsenter -t $(cat "+filepath.Join(l.dir, "box")+") -n ss -tlnH sport = 80")
		h1.start("exec socat TCP-LISTEN:8001 TCP:172.17.0.2:80")
		h1.await(8001)
		h2.start("exec nc 10.0.0.1 8001")
	})
	casePath := filepath.Join(l.dir, "case.json")
	text, err := l.trace("start", "10.0.0.1", fmt.Sprintf("%d,9000", port), "--case", casePath, "--call")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)
	g := l.judged(casePath)
	if got, want := outline(g.Root, 0), "10.0.0.1 proven\n 10.0.0.2 proven"; got != want {
		t.Errorf("the chain is\n%s\nwant\n%s", got, want)
	}
	inBox := 0
	for _, p := range g.Root.Record.Processes {
		if p.NetNS != 0 {
			inBox++
		}
	}
	if inBox != 1 {
		t.Errorf("%d processes are recorded as being in another network namespace, want the one in the box", inBox)
	}
}
