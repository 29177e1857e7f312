package trace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

const translation = `table ip nat {
	chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat to 172.17.0.2:80; }
	chain out { type nat hook output priority -100; ip daddr 10.0.0.1 tcp dport 8080 dnat to 172.17.0.2:80; }
	chain post { type nat hook postrouting priority 100; ip saddr 172.17.0.0/24 oifname eth0 masquerade; }
}
`

// box makes a container's network on a host, as container runtimes do: addresses
// of its own, which the host's kernel translates in both directions. It serves
// the host's port 8080.
func (h *host) box() (pidFile string) {
	h.lab.t.Helper()
	testkit.Tool(h.lab.t, "nft")
	pidFile = filepath.Join(h.lab.dir, h.name+".box")
	rules := filepath.Join(h.lab.dir, h.name+".nft")
	if err := os.WriteFile(rules, []byte(translation), 0o600); err != nil {
		h.lab.t.Fatal(err)
	}
	if out, err := h.run(fmt.Sprintf(`set -e
unshare -n sleep infinity > /dev/null 2>&1 & box=$!
until test "$(readlink /proc/$box/ns/net)" != "$(readlink /proc/self/ns/net)"; do sleep 0.05; done
echo $box > %s
ip link add box0 type veth peer name eth0 netns $box
ip addr add 172.17.0.1/24 dev box0
ip link set box0 up
nsenter -t $box -n sh -c 'ip link set lo up; ip addr add 172.17.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1'
sysctl -qw net.ipv4.ip_forward=1
nft -f %s`, pidFile, rules)); err != nil {
		h.lab.t.Fatalf("%v: %s", err, out)
	}
	return pidFile
}

// TestContainerBehindTranslation attacks from a container whose addresses the
// kernel translates: h2 reaches it by a port of the host, and h3 by a relay of the
// host to that port. Both are asked about while the connections are open, and
// when they are over.
func TestContainerBehindTranslation(t *testing.T) {
	l := newLab(t, "h1", "h2", "h3")
	me := l.investigator()
	h1, h2, h3 := l.hosts[0], l.hosts[1], l.hosts[2]
	inBox := "nsenter -t $(cat " + h1.box() + ") -n "
	for _, h := range l.hosts {
		h.daemon(me, "deadline: 30s")
	}
	for _, c := range []struct {
		port int
		from *host
		to   int
	}{{9000, h2, 8080}, {9001, h3, 7001}} {
		t.Run(fmt.Sprint("by port ", c.to), func(t *testing.T) {
			want := fmt.Sprintf("10.0.0.1 proven\n %v proven", c.from.addr)
			conn, port := l.acceptAttack(c.port, func() {
				h1.start(fmt.Sprintf("exec %s socat TCP-LISTEN:80,reuseaddr TCP:%s:%d", inBox, victimAddr, c.port))
				h1.until("the box listens", inBox+"ss -tlnH sport = 80")
				if c.to == 7001 {
					h1.start("exec socat TCP-LISTEN:7001 TCP:10.0.0.1:8080")
					h1.await(7001)
				}
				c.from.start(fmt.Sprintf("exec nc 10.0.0.1 %d", c.to))
			})
			defer conn.Close()
			at := time.Now()
			casePath := filepath.Join(l.dir, fmt.Sprint("open", c.port, ".json"))
			text, err := l.trace("start", "10.0.0.1", fmt.Sprintf("%d,%d", port, c.port), "--timeout", "40s", "--case", casePath, "--call")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", text)
			if got := outline(l.judged(casePath).Root, 0); got != want {
				t.Errorf("while it is open, the chain is\n%s\nwant\n%s", got, want)
			}
			time.Sleep(1500 * time.Millisecond) // until the recorder has looked
			conn.Close()
			h1.until("it is over", inBox+"ss -tnH state established | grep -q . || echo over")
			time.Sleep(time.Second)
			l.traceEnded(h1, port, c.port, at, want)
		})
	}
}
