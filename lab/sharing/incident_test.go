package sharing_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/testkit"
	"dragnet/lab/incident"
)

// TestCommunity is the whole of it: four organisations answer, two of them over
// the clearinghouse's relay, a fifth lies, an outsider records every packet, and
// the operators read what was asked.
func TestCommunity(t *testing.T) {
	c := newCommunity(t)
	c.sign("")
	c.startClearinghouse()
	tapped := c.tap()
	paths, err := incident.Unpack(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range c.truth.Organisations {
		if i%2 == 0 {
			c.direct(o.Name, o.Networks, paths[o.Name])
		} else {
			c.relayed(o.Name, o.Networks, paths[o.Name])
		}
	}
	honest := c.write("honest.yaml", c.book.String())

	hosts, _ := c.ask(honest)
	slices.Sort(hosts)
	want := c.infected()
	slices.Sort(want)
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Errorf("the group (-want +got):\n%s", diff)
	}

	c.lie(want, honest)
	c.checkPublicView(honest)
	c.checkSecrecy(tapped())
	c.checkDockets()
	c.checkRevocation(honest)
}

// checkPublicView has both detectives report, and reads what anybody may read:
// the group is there, and no word of who reported it or saw it.
func (c *community) checkPublicView(book string) {
	c.Helper()
	at := []string{"--clearinghouse", c.url("clearing"), "--server", c.signer}
	var names []string
	for _, d := range detectives {
		result := c.write(d+"/result.json", c.question(book, d))
		c.must("detective", append([]string{"report", "submit", result, "--key", c.keyFile(d)}, at...)...)
		names = append(names, d, c.key(d))
	}
	for _, o := range c.truth.Organisations {
		names = append(names, o.Name, c.key(o.Name))
	}
	var view string
	for range 50 { // batches are a second apart
		view = c.must("draco", append([]string{"entry", "list", "--all", "-o", "json"}, at...)...) +
			c.must("draco", append([]string{"group", "list", "--all", "-o", "json"}, at...)...)
		if strings.Contains(view, `"host"`) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, o := range c.truth.Organisations {
		for _, h := range o.Infected {
			if there := strings.Contains(view, fmt.Sprintf("%q", h)); there == h.IsPrivate() {
				c.Errorf("the public view and %s of %s: listed %t", h, o.Name, there)
			}
		}
	}
	for _, name := range names {
		if strings.Contains(view, name) {
			c.Errorf("the public view names %s:\n%s", name, view)
		}
	}
}

// checkRevocation takes a detective off the roster: the witnesses learn it from
// the clearinghouse, and answer it no more.
func (c *community) checkRevocation(book string) {
	c.Helper()
	c.sign("watch")
	entries := []string{"entry", "list", "--all", "-o", "csv", "--clearinghouse", c.url("clearing"), "--server", c.signer}
	var view string
	for range 100 { // the roster's file is looked at every few seconds
		if view = c.must("draco", entries...); strings.Count(view, "\n") == 1 {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if strings.Count(view, "\n") != 1 {
		c.Errorf("what only one standing organisation reports is still published:\n%s", view)
	}
	for _, p := range c.running { // a restart asks the clearinghouse at once
		c.restart(p)
	}
	for _, who := range detectives {
		c.question(book, who)
		out := c.must("detective", "question", "status", "--state", c.state(who), "--limit", "1")
		want := map[string]string{"honeyfarm": "4 of 4 answered", "watch": "0 of 4 answered"}[who]
		if !strings.Contains(out, want) {
			c.Errorf("%s after the revocation, want %s:\n%s", who, want, out)
		}
	}
}

// lie adds a fifth witness that knows the pattern and whose log is invented: it
// accuses innocent hosts of the others and acquits none.
func (c *community) lie(want []string, honest string) {
	c.Helper()
	var innocent []netip.Addr
	for _, o := range c.truth.Organisations {
		for _, l := range o.LookAlikes {
			innocent = append(innocent, l.Host)
		}
	}
	network := netip.MustParsePrefix("198.18.99.0/24")
	c.direct("liar", []netip.Prefix{network}, c.invent(innocent))
	book := c.write("five.yaml", c.book.String())
	hosts, all := c.ask(book)
	slices.Sort(hosts)
	if diff := cmp.Diff(want, hosts); diff != "" {
		c.Errorf("the group with a liar (-want +got):\n%s", diff)
	}
	// It did lie: its answers opened, and a detective that trusts one class believes it.
	i := slices.IndexFunc(all.Witnesses, func(w struct {
		Name   string `json:"name"`
		Opened int    `json:"opened"`
	}) bool {
		return w.Name == "liar"
	})
	if i < 0 || all.Witnesses[i].Opened == 0 {
		c.Errorf("the liar was not heard: %+v", all.Witnesses)
	}
	if gullible, _ := c.ask(book, "-k", "1"); len(gullible) != len(want)+len(innocent) {
		c.Errorf("with a quorum of 1: %v", gullible)
	}
	// A book that does not know it gives the same.
	if again, _ := c.ask(honest); len(again) != len(want) {
		c.Errorf("without the liar again: %v", again)
	}
}

// invent writes a Zeek log in which each host was contacted and then fetched.
func (c *community) invent(hosts []netip.Addr) string {
	var b strings.Builder
	b.WriteString("#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n" +
		"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n" +
		"#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\n")
	at := c.truth.Recorded.Unix()
	for i, h := range hosts {
		fmt.Fprintf(&b, "%d.0\tC%da\t%s\t%d\t%s\t%d\ttcp\tSF\n", at+int64(i), i, c.truth.Attacker, 40000+i, h, incident.ContactPort)
		fmt.Fprintf(&b, "%d.0\tC%db\t%s\t%d\t%s\t%d\tudp\tSF\n", at+int64(i)+5, i, h, 50000+i, c.truth.CodeServer, incident.FetchPort)
	}
	return c.write("liar/conn.log", b.String())
}

// tap records every packet that crosses the exchange; the result is called to
// end it and read them.
func (c *community) tap() func() []byte {
	c.Helper()
	file := filepath.Join(c.dir, "tap.pcap")
	p, err := c.nodes["exchange"].Start("dumpcap", "-q", "-P", "-i", "br0", "-w", file)
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	if err := p.Await(ctx, "File:"); err != nil {
		c.Fatal(err)
	}
	return func() []byte {
		time.Sleep(time.Second) // what the kernel holds back
		if err := p.Stop(); err != nil {
			c.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			c.Fatal(err)
		}
		c.checkTap(file)
		return data
	}
}

// checkTap makes sure that the outsider saw what it should have: a handshake of
// TLS 1.3 with every witness.
func (c *community) checkTap(file string) {
	c.Helper()
	out, err := exec.Command(testkit.Tool(c, "tshark"), "-r", file, "-d", "tcp.port==8443,tls",
		"-Y", "tls.handshake.type == 2 && tls.handshake.extensions.supported_version == 0x0304", "-T", "fields", "-e", "ip.src").Output()
	if err != nil {
		c.Fatal(err)
	}
	for _, name := range []string{"clearing", "aurora", "cygnus", "liar"} {
		if !strings.Contains(string(out), c.address(name).String()) {
			c.Errorf("the outsider saw no TLS 1.3 handshake of %s: %q", name, out)
		}
	}
}

// checkSecrecy looks for the pattern and the hosts in all that crossed the
// wire: as text, and as the bytes in which questions and statements hold them.
func (c *community) checkSecrecy(recorded []byte) {
	c.Helper()
	secret := map[string][]byte{
		"the epoch, which every question holds": []byte(time.Now().UTC().Format(time.DateOnly)),
		"the name of a method":                  []byte("dragnet.exchange"),
		"the kind of an envelope":               []byte("testimony"),
	}
	addresses := []netip.Addr{c.truth.Attacker, c.truth.CodeServer}
	for _, o := range c.truth.Organisations {
		addresses = append(addresses, o.Infected...)
	}
	for _, a := range addresses {
		secret["the address "+a.String()+" as text"] = []byte(a.String())
		secret["the address "+a.String()] = a.AsSlice()
	}
	for what, b := range secret {
		if at := bytes.Index(recorded, b); at >= 0 {
			c.Errorf("an outsider reads %s at byte %d of %d", what, at, len(recorded))
		}
	}
	if !bytes.Contains(recorded, c.address("aurora").AsSlice()) {
		c.Error("the search does not even find the addresses of the packets themselves")
	}
}

// checkDockets reads each witness's record: everything asked and answered, and
// whole.
func (c *community) checkDockets() {
	c.Helper()
	for _, o := range c.truth.Organisations {
		conf := filepath.Join(c.dir, o.Name, "node.yaml")
		out := c.must(o.Name, "question", "list", "--config", conf, "-o", "csv")
		if asked, answered := strings.Count(out, ",asked,"), strings.Count(out, ",answered,"); asked != 6 || answered != 6 {
			c.Errorf("%s: %d asked, %d answered, want 6 and 6:\n%s", o.Name, asked, answered, out)
		}
		if !strings.Contains(out, "org:honeyfarm") || strings.Contains(out, c.truth.Attacker.String()) {
			c.Errorf("%s: the record names the detective and not the pattern:\n%s", o.Name, out)
		}
		if head := c.must(o.Name, "question", "list", "--config", conf, "--verify"); !strings.HasPrefix(head, "12:") {
			c.Errorf("%s: head %q", o.Name, head)
		}
	}
	if out := c.must("detective", "question", "status", "--state", c.state("honeyfarm")); !strings.Contains(out, "5 of 5 answered") {
		c.Errorf("status: %s", out)
	}
}
