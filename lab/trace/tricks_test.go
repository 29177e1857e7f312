package trace_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"dragnet/internal/testkit"
	"dragnet/trace/chain"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// trick is a relay of an ordinary user on h1, through which h2 reaches the victim.
type trick struct {
	name string
	// relay is a shell command; IN is the port that h2 connects to, OUT the
	// victim's, ME runs a command as that user.
	relay string
	// called says that h1 connects to h2, not h2 to h1.
	called bool
	// before runs before h2 connects, after it once the chain stands.
	before, after func(l *lab, in int)
	// seen says that h2 must be named.
	seen bool
	// said must be among the obstacles of the record, "" for none.
	said record.Obstacle
}

// user is the number of the user who plays the tricks; nobody has it.
const user = 61234

var tricks = []trick{
	{name: "socket bound to an interface", seen: true,
		relay: "exec ME socat TCP-LISTEN:IN,reuseaddr TCP:10.0.0.100:OUT,so-bindtodevice=eth0"},
	{name: "accepted socket connected again", seen: true,
		relay: "RELAY_CONNECTIONS=again,IN,OUT exec ME " + os.Args[0]},
	{name: "socket named like a hub", seen: true,
		relay: "exec ME unshare -Urm sh -c 'mount -t tmpfs none /run && mkdir -p /run/user/1003 && { socat UNIX-LISTEN:/run/user/1003/bus TCP:10.0.0.100:OUT & }; " +
			"exec socat TCP-LISTEN:IN,reuseaddr UNIX-CONNECT:/run/user/1003/bus,retry=40,interval=0.05'"},
	{name: "shadow connection in a namespace", seen: true, said: record.OtherSpace,
		relay: "exec ME socat TCP-LISTEN:IN,reuseaddr TCP:10.0.0.100:OUT",
		after: func(l *lab, in int) {
			h := l.hosts[0]
			h.start(strings.NewReplacer("IN", fmt.Sprint(in), "PORT", fmt.Sprint(in+10000), "ME", asUser).Replace(
				"exec ME unshare -Urn sh -c 'ip link set lo up; ip addr add 10.0.0.1/32 dev lo; ip addr add 10.0.0.2/32 dev lo; " +
					"socat TCP-LISTEN:IN,bind=10.0.0.1 PIPE & exec socat TCP:10.0.0.1:IN,bind=10.0.0.2:PORT,retry=40,interval=0.05 PIPE'"))
			h.until("the shadow connection stands", fmt.Sprintf("for p in $(pgrep -u 61234 socat); do nsenter --net=/proc/$p/ns/net ss -tnH state established sport = %d; done | grep 10.0.0.2", in+10000))
		}},
	{name: "reverse shell", said: record.OutboundOne, called: true,
		relay: "exec ME socat TCP:10.0.0.2:IN,retry=40,interval=0.05 TCP:10.0.0.100:OUT,retry=40,interval=0.05"},
	{name: "600 decoy processes", said: record.Bound,
		relay: "exec ME sh -c '{ for i in $(seq 600); do sleep 60 & done; nc -l IN; sleep 1; } | nc 10.0.0.100 OUT'"},
	{name: "70 decoy connections", seen: true,
		relay: "RELAY_CONNECTIONS=decoys,IN,OUT exec ME " + os.Args[0],
		before: func(l *lab, in int) {
			l.hosts[2].start(fmt.Sprintf("for i in $(seq 70); do nc 10.0.0.1 %d & done; wait", in))
			l.hosts[0].until("the decoys are there", fmt.Sprintf("test $(ss -tnH state established sport = %d | wc -l) = 70 && echo all", in))
		}},
}

var asUser = fmt.Sprintf("setpriv --reuid %d --regid %[1]d --clear-groups", user)

// TestTricksOfAnOrdinaryUser has somebody without any right pass a connection on in
// ways that once cut the chain: the host before is named, or the record says
// what could not be seen.
func TestTricksOfAnOrdinaryUser(t *testing.T) {
	testkit.Tool(t, "setpriv")
	l := newLab(t, "h1", "h2", "h3")
	me := l.investigator()
	for _, h := range l.hosts {
		h.daemon(me, "save_budget: {per_minute: 6000, burst: 6000}", "deadline: 30s")
	}
	// The user must reach what the test runs.
	for _, path := range []string{filepath.Dir(filepath.Dir(os.Args[0])), filepath.Dir(os.Args[0])} {
		os.Chmod(path, 0o755)
	}
	for i, k := range tricks {
		t.Run(k.name, func(t *testing.T) {
			in, out := 7100+i, 9100+i
			port := l.attacked(out, func() {
				relay := strings.NewReplacer("IN", fmt.Sprint(in), "OUT", fmt.Sprint(out), "ME ", asUser+" ").Replace(k.relay)
				if k.called {
					l.hosts[1].start(fmt.Sprintf("exec nc -l %d", in))
					l.hosts[1].await(in)
					l.hosts[0].start(relay)
					return
				}
				l.hosts[0].start(relay)
				l.hosts[0].await(in)
				if k.before != nil {
					k.before(l, in)
				}
				l.hosts[1].start(fmt.Sprintf("exec nc -p %d 10.0.0.1 %d", in+10000, in))
			})
			l.hosts[0].until("h2 is connected", fmt.Sprintf("ss -tnH state established dst 10.0.0.2 | grep :%d", in))
			if k.after != nil {
				k.after(l, in)
			}
			path := filepath.Join(l.dir, fmt.Sprint(in, ".json"))
			text, err := l.trace("start", "10.0.0.1", fmt.Sprintf("%d,%d", port, out), "--timeout", "40s", "--case", path, "--call")
			if err != nil {
				t.Fatal(err)
			}
			k.check(t, l.judged(path).Root, text)
		})
	}
}

func (k *trick) check(t *testing.T, root *chain.Node, text string) {
	if root.Status != chain.Proven || root.Record.UID == nil || *root.Record.UID != user {
		t.Fatalf("the first host:\n%s", text)
	}
	named := slices.ContainsFunc(root.Previous, func(n *chain.Node) bool { return n.Host.String() == "10.0.0.2" && n.Status == chain.Proven })
	if named != k.seen {
		t.Errorf("the host before is named: %v, want %v\n%s", named, k.seen, text)
	}
	end := root.Record.End
	if said := k.said == "" || slices.ContainsFunc(end.Unseen, func(u record.Unseen) bool { return u.What == k.said }); !said || !strings.Contains(text, string(k.said)) {
		t.Errorf("the record lacks %q: %+v\n%s", k.said, end, text)
	}
	if (end.Grade == record.Cut) == k.seen {
		t.Errorf("the end is %q", end.Grade)
	}
}

// relay listens, connects to the victim in an unusual way, and keeps every
// connection.
func relay(how, in, out string) error {
	l, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", in))
	if err != nil {
		return err
	}
	var kept []net.Conn
	accept := func(n int) error {
		for range n {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			kept = append(kept, c)
		}
		return nil
	}
	victim := net.JoinHostPort(victimAddr, out)
	switch how {
	case "decoys":
		if err := accept(71); err != nil {
			return err
		}
		c, err := net.Dial("tcp4", victim)
		if err != nil {
			return err
		}
		kept = append(kept, c)
	case "again":
		if err := accept(1); err != nil {
			return err
		}
		if err := connectAgain(victim); err != nil {
			return err
		}
	}
	time.Sleep(time.Minute)
	return nil
}

// connectAgain accepts a connection of its own, dissolves it (connect(2),
// AF_UNSPEC) and connects the same socket to an address.
func connectAgain(address string) error {
	l, err := net.Listen("tcp4", "0.0.0.0:0") // bound to an address it would keep that
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return err
	}
	f, err := s.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	s.Close()
	c.Close()
	l.Close()
	fd := int(f.Fd())                       // blocking from here on
	var none [unix.SizeofSockaddrInet4]byte // AF_UNSPEC is 0
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), uintptr(len(none))); errno != 0 {
		return fmt.Errorf("dissolve a connection: %w", errno)
	}
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
}
