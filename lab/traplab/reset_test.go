package traplab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/netlab"
)

// resetLab is an organisation whose node has one signature that another shared, and
// whose sensor is in front of its server.
type resetLab struct {
	*whole
	name    string // of the signature, at the node
	payload []byte
	ends    chan error // how connections end at the server
	sensor  *netlab.Process
}

func newResetLab(t *testing.T, reset bool) *resetLab {
	l := &resetLab{whole: newOrganisation(t), ends: make(chan error, 100)}
	prefix := netip.MustParsePrefix
	if err := errors.Join(l.server.Address("eth0", prefix("2001:db8:78::2/64")), l.router.Address("lan", prefix("2001:db8:78::1/64")),
		l.server.Route(prefix("::/0"), netip.MustParseAddr("2001:db8:78::1"))); err != nil {
		t.Fatal(err)
	}
	private, public := l.sealingKeys()
	l.payload = append(append([]byte{}, Marker...), bytes.Repeat([]byte("this is the whole of a worm that was captured once. "), 20)...)
	sample := l.file("sample", string(l.payload))
	l.file("shared/x", "")
	l.must(l.router, "signature", "learn", sample, "--name", "worm", "--sign", private, "--write", l.path("shared/worm.json"))
	l.file("clean/1", string(cleanRequest(1)))
	node := l.file("node.yaml", fmt.Sprintf(`store: {directory: %[1]s/data}
admin: {listen: ""}
api: {listen: 127.0.0.1:9121}
decide: {enforce: true, approval: true, budget: 1, addresses: 256}
centre: {clean: [%[1]s/clean], shared: [%[1]s/shared], trust: [%[2]s]}
`, l.dir, public))
	var err error
	if l.process, err = l.router.Start(l.dragnet, "run", "node", "--config", node); err == nil {
		err = l.process.Await(t.Context(), "node started")
	}
	if err != nil {
		t.Fatal(err)
	}
	l.enrol(l.router, l.path("data"), "sensor", l.path("sensor"))
	conf := l.file("sensor.yaml", fmt.Sprintf("live: {interface: lan}\nevery: 200ms\npayload: {match: true, reset: %v}\nchannel: {state: %s}\n", reset, l.path("sensor")))
	s, err := l.router.Start("setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all", l.agent, "run", "sensor", "--config", conf)
	if err == nil {
		err = s.Await(t.Context(), `"msg":"signatures in use","component":"sensor","signatures":1,`)
	}
	if err != nil {
		t.Fatal(err, s.Output())
	}
	l.sensor = s
	l.name = regexp.MustCompile(`shared-[\w-]+`).FindString(l.must(l.router, "signature", "centre", "--data", l.path("data"), "-o", "csv"))
	for _, address := range []string{"0.0.0.0:80", "[::]:80"} {
		l.serve(l.server, address, func(c net.Conn) {
			defer c.Close()
			_, err := io.Copy(io.Discard, c)
			l.ends <- err
		})
	}
	return l
}

// newOrganisation is a lab with keys and programs, and no other organisation.
func newOrganisation(t *testing.T) *whole {
	w := &whole{lab: newLab(t)}
	w.dragnet = filepath.Join(w.dir, "dragnet")
	if out, err := exec.Command("go", "build", "-o", w.dragnet, "../../cmd/dragnet").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w
}

// carries sends a payload in two pieces, and reports whether the connection is
// reset at both ends within a second.
func (l *resetLab) carries(to string, payload []byte) bool {
	l.Helper()
	c, err := l.dial(l.attacker, tcpOf(to), to)
	if err != nil {
		l.Fatal(err)
	}
	defer c.Close()
	for _, part := range [][]byte{payload[:len(payload)/2], payload[len(payload)/2:]} {
		if _, err := c.Write(part); err != nil {
			l.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = c.Read(make([]byte, 1))
	here := errors.Is(err, syscall.ECONNRESET)
	if !here && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.Errorf("the connection ends with %v", err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil && !here {
		l.Error(err)
	}
	there := errors.Is(<-l.ends, syscall.ECONNRESET)
	if here != there {
		l.Errorf("reset at the client: %v, at the server: %v", here, there)
	}
	return here && there
}

// awaitDecisions waits until the sensor follows n decisions.
func (l *resetLab) awaitDecisions(n int) {
	l.Helper()
	l.eventually("decisions arrive", func() bool {
		out := l.sensor.Output()
		return strings.Contains(out[strings.LastIndex(out, `"signatures in use"`):], fmt.Sprintf(`"resets":%d}`, n))
	})
}

func (l *resetLab) decide(args ...string) (id string) {
	l.Helper()
	out := l.must(l.router, append(args, "--data", l.path("data"), "--who", "ada", "-o", "csv")...)
	id, _, _ = strings.Cut(strings.Split(out, "\n")[1], ",")
	return id
}

// TestMatchingConnectionIsReset: a connection that carries what a signature matches
// is reset at both ends under an approved decision about this signature, and only
// then, and no other connection is.
func TestMatchingConnectionIsReset(t *testing.T) {
	l := newResetLab(t, true)
	const server, server6 = "10.77.0.2:80", "[2001:db8:78::2]:80"
	if l.carries(server, l.payload) {
		t.Error("reset without a decision")
	}
	id := l.decide("decision", "propose", "--signature", l.name, "--why", "it is the worm")
	time.Sleep(1500 * time.Millisecond) // twice what a decision needs to arrive
	if l.carries(server, l.payload) {
		t.Error("reset under a decision that was not approved")
	}
	l.decide("decision", "approve", id)
	l.awaitDecisions(1)
	if !l.carries(server, l.payload) || !l.carries(server6, l.payload) {
		t.Error("not reset under a decision")
	}
	if l.carries(server, cleanRequest(7)) {
		t.Error("another connection is reset")
	}
	found := ""
	l.eventually("the finding says what was done", func() bool {
		found = l.must(l.router, "finding", "list", "--data", l.path("data"), "--host", "203.0.113.2", "-o", "json")
		return strings.Contains(found, "reset under decision "+id)
	})
	l.decide("decision", "undo", id)
	l.awaitDecisions(0)
	if l.carries(server, l.payload) {
		t.Error("reset after the decision was undone")
	}
}

// TestResetNeedsTheSensorsConsent: without payload.reset a decision is a dry run at
// the sensor, which says so.
func TestResetNeedsTheSensorsConsent(t *testing.T) {
	l := newResetLab(t, false)
	id := l.decide("decision", "propose", "--signature", l.name, "--why", "it is the worm")
	l.decide("decision", "approve", id)
	l.awaitDecisions(1)
	if l.carries("10.77.0.2:80", l.payload) {
		t.Error("reset by a sensor that is not to")
	}
	l.eventually("the sensor says so", func() bool { return strings.Contains(l.sensor.Output(), "would be reset") })
}
