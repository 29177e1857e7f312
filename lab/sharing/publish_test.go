package sharing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/publish/lapi"
	"dragnet/publish/mirror"
	"dragnet/publish/publishtest"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
	"dragnet/wire/roster"
)

const (
	attackerAddress = "198.51.100.7"
	otherAddress    = "203.0.113.77"
	allowedAddress  = "203.0.113.88" // on the clearinghouse's allow list
)

// published is a clearinghouse with every output, an edge that reads them, and
// an attacker behind the edge.
type published struct {
	*testing.T
	dir                      string
	clearing, edge, attacker *netlab.Node
	key                      *identity.Key
	members                  map[string]*identity.Key
	client                   *http.Client // asks from the edge
	swarm                    *publishtest.Swarm
	process                  *netlab.Process
}

func newPublished(t *testing.T) *published {
	t.Helper()
	lab := netlab.For(t)
	nodes, err := lab.Nodes("clearing", "edge", "attacker")
	if err != nil {
		t.Fatal(err)
	}
	p := &published{T: t, dir: t.TempDir(), clearing: nodes[0], edge: nodes[1], attacker: nodes[2], members: map[string]*identity.Key{}}
	prefix := netip.MustParsePrefix
	if err := errors.Join(lab.Wire(p.clearing, "eth0", p.edge, "eth0"), lab.Wire(p.attacker, "eth0", p.edge, "eth1"),
		p.clearing.Address("eth0", prefix("10.99.1.1/24")), p.edge.Address("eth0", prefix("10.99.1.2/24")),
		p.edge.Address("eth1", prefix("198.51.100.1/24")), p.attacker.Address("eth0", prefix(attackerAddress+"/24"))); err != nil {
		t.Fatal(err)
	}
	p.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // a certificate made below
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return p.dial(p.edge, network, address)
		},
	}}
	// A distributed hash table that neither end of the link runs.
	p.swarm = publishtest.NewSwarm(t, 8, func() (c net.PacketConn, err error) {
		err = errors.Join(p.edge.Do(func() error { c, err = net.ListenPacket("udp", "10.99.1.2:0"); return err }), err)
		return c, err
	})
	p.start()
	return p
}

func (p *published) dial(from *netlab.Node, network, address string) (c net.Conn, err error) {
	err = errors.Join(from.Do(func() error {
		c, err = net.DialTimeout(network, address, time.Second)
		return nil
	}), err)
	return c, err
}

func (p *published) write(name, text string) string {
	p.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	return path
}

// certificate makes a self-signed one for the HTTP outputs.
func (p *published) certificate() (cert, key string) {
	p.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "feed"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(10, 99, 1, 1)}}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	raw, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err1, err2); err != nil {
		p.Fatal(err)
	}
	return p.write("feed.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), p.write("feed.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

// start signs a roster of two members with telling names and runs the
// clearinghouse with every output.
func (p *published) start() {
	p.Helper()
	state := filepath.Join(p.dir, "clearing")
	if err := os.Mkdir(state, 0o700); err != nil {
		p.Fatal(err)
	}
	var err error
	if p.key, err = identity.Create(filepath.Join(state, "identity.key")); err != nil {
		p.Fatal(err)
	}
	now := time.Now()
	draft := roster.Roster{Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour), Servers: []identity.Public{p.key.Public()}}
	for _, name := range []string{"honeyfarm-zeta", "university-omega"} {
		k, err := identity.Generate()
		if err != nil {
			p.Fatal(err)
		}
		p.members[name] = k
		draft.Members = append(draft.Members, roster.Member{Name: name, Class: "org:" + name, Roles: roster.Report,
			Keys: []roster.MemberKey{{Public: k.Public(), From: now.Add(-time.Hour), Until: now.Add(time.Hour)}}})
	}
	bundle, err := roster.Sign(p.key, &draft, nil)
	if err != nil {
		p.Fatal(err)
	}
	signed, err := bundle.MarshalBinary()
	if err != nil {
		p.Fatal(err)
	}
	p.write("roster.bin", string(signed))
	p.write("bouncers", lapi.KeyLine("edge", "edgekey")+"\n"+lapi.KeyLine("test", "edgekey2")+"\n")
	cert, key := p.certificate()
	conf := p.write("clearinghouse.yaml", fmt.Sprintf(`server: {directory: %[1]s/clearing, roster: %[1]s/roster.bin, listen: "10.99.1.1:8443"}
admin: {listen: ""}
clearinghouse: {floor: 2, witnesses: 1, batch: 2s}
publish:
  objections: https://example.org/objections
  allow: [203.0.113.88/32]
  http: {listen: "10.99.1.1:8480", certificate: %[2]q, key: %[3]q}
  mirror: {directory: %[1]s/feed}
  query: {serve: true}
  block: {min_confidence: 50}
  sensors: {min_confidence: 50}
  ocsf: {serve: true}
  misp: {organisation: Example}
  lapi: {min_confidence: 50, keys: %[1]s/bouncers}
  taxii: {title: Example, min_confidence: 50}
  dnsbl: {listen: "10.99.1.1:53", zone: bl.example.org, nameservers: [ns.example.org], hostmaster: hostmaster.example.org, secondaries: ["10.99.1.2"], ttl: 1s}
  pointer: {bootstrap: [%[4]s], mirrors: ["https://10.99.1.1:8480/mirror/", "http://10.99.1.2:8081/"]}
  notice:
    directory: %[1]s/notices
    from: clearing@example.org
    owners: [{name: owner, mail: abuse@example.net, networks: [198.51.100.0/24]}]
`, p.dir, cert, key, strconv.Quote(p.swarm.Addresses()[0])))
	if p.process, err = p.clearing.Start(program, "run", "clearinghouse", "--config", conf); err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), within)
	defer cancel()
	if err := p.process.Await(ctx, `"msg":"clearinghouse started"`); err != nil {
		p.Fatal(err)
	}
}

// member calls the clearinghouse as a member. Its client dials from this
// machine, so a way into the edge's namespace is opened for it.
func (p *published) member(name string, call func(*reporting.Client) error) {
	p.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := p.dial(p.edge, "tcp", "10.99.1.1:8443")
			if err != nil {
				in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
	c, err := reporting.Dial("https://"+l.Addr().String(), []identity.Public{p.key.Public()}, p.members[name])
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	if err := call(c); err != nil {
		p.Fatal(err)
	}
}

func (p *published) report(name string) (id dossier.ReportID) {
	p.Helper()
	now := flow.FromTime(time.Now())
	r := &dossier.Report{Pattern: "in dport=445", Made: now, Until: now + flow.Time(time.Hour), Asked: 5, Disclose: true}
	for _, h := range []string{attackerAddress, otherAddress, allowedAddress} {
		r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: netip.MustParseAddr(h), Witnesses: 4, First: now - 5, Last: now})
	}
	p.member(name, func(c *reporting.Client) error {
		out, err := c.SubmitReports(p.Context(), r)
		if err == nil && (len(out) != 1 || out[0].Status != reportingv1.Status_STATUS_ACCEPTED) {
			err = fmt.Errorf("%v", out)
		}
		if err == nil {
			id = dossier.ReportID(out[0].Report)
		}
		return err
	})
	return id
}

func (p *published) get(path string, header ...string) string {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, "https://10.99.1.1:8480"+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := p.client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		p.Fatal(err)
	}
	return string(b)
}

// askDNS asks a server from the edge.
func (p *published) askDNS(server, name string, kind uint16) string {
	c, err := p.dial(p.edge, "udp", server)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	conn := &dns.Conn{Conn: c}
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	if err := conn.WriteMsg(m); err != nil {
		return err.Error()
	}
	a, err := conn.ReadMsg()
	if err != nil {
		return err.Error()
	}
	return a.String()
}

func (p *published) number() int64 {
	p.Helper()
	head, err := mirror.OpenHead([]byte(p.get("/mirror/"+mirror.SignatureName)), p.key.Public(), time.Now())
	if err != nil {
		p.Fatal(err)
	}
	return head.Number
}

// await waits until all outputs agree, and returns how many publications that
// took.
func (p *published) await(what string, want bool) int64 {
	p.Helper()
	from := p.number()
	var wrong []string
	for range 100 {
		wrong = nil
		number := p.number()
		for name, answer := range p.outputs() {
			if lists(name, answer) != want {
				wrong = append(wrong, name)
			}
		}
		if len(wrong) == 0 {
			return number - from
		}
		time.Sleep(200 * time.Millisecond)
	}
	slices.Sort(wrong)
	p.Fatalf("%s: these outputs do not follow: %v", what, wrong)
	return 0
}

// TestPublishing is the whole way: reports, every output, a firewall that blocks
// and unblocks, mirrors and secondaries that outlive the clearinghouse.
func TestPublishing(t *testing.T) {
	testkit.Long(t)
	bouncer, nsd, nginx := testkit.Tool(t, "crowdsec-firewall-bouncer"), testkit.Tool(t, "nsd"), testkit.Tool(t, "nginx")
	p := newPublished(t)
	p.startEdge(bouncer, nsd)

	p.awaitBlocked("before any report", false)
	p.report("honeyfarm-zeta")
	from := p.number()
	for p.number() < from+3 {
		time.Sleep(100 * time.Millisecond)
	}
	p.await("one report of two that are needed", false)

	id := p.report("university-omega")
	// Number is read before the outputs are, so one more publication may have come.
	if n := p.await("two reports", true); n > 2 {
		t.Errorf("all outputs followed after %d intervals", n)
	}
	p.awaitBlocked("two reports", true)
	p.checkMasked()

	p.member("university-omega", func(c *reporting.Client) error { return c.WithdrawReport(t.Context(), id, "a mistake") })
	if n := p.await("withdrawn", false); n > 2 {
		t.Errorf("the withdrawal reached all outputs after %d intervals", n)
	}
	p.awaitBlocked("withdrawn", false)

	time.Sleep(1100 * time.Millisecond) // the same report again would be known
	p.report("university-omega")
	p.await("reported again", true)
	p.awaitBlocked("reported again", true)
	copied := filepath.Join(p.dir, "copy")
	c := &mirror.Copier{URL: "https://10.99.1.1:8480/mirror/", Directory: copied, Publisher: p.key.Public(), Client: p.client}
	p.awaitSecondary()
	// A copy right after a publication is most likely the last when the
	// clearinghouse is killed.
	for now := p.number(); p.number() == now; {
		time.Sleep(20 * time.Millisecond)
	}
	done, err := c.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.serveMirror(nginx, filepath.Join(copied, mirror.Current))
	// The clearinghouse is gone for good.
	if err := p.killClearinghouse(); err != nil {
		t.Fatal(err)
	}
	p.checkOutlived(copied, done.Manifest.Head.Number)
	p.awaitBlocked("after the clearinghouse is gone", true)
}

// startEdge runs a server, Debian's bouncer and a DNS secondary on the edge.
func (p *published) startEdge(bouncer, nsd string) {
	p.Helper()
	var l net.Listener
	if err := p.edge.Do(func() (err error) { l, err = net.Listen("tcp", "198.51.100.1:80"); return err }); err != nil {
		p.Fatal(err)
	}
	web := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	p.Cleanup(func() { web.Close() })
	go web.Serve(l)
	text, err := os.ReadFile("/etc/crowdsec/bouncers/crowdsec-firewall-bouncer.yaml")
	if err != nil {
		p.Fatal(err)
	}
	conf := strings.NewReplacer("${BACKEND}", "nftables", "${API_KEY}", "edgekey", "update_frequency: 10s", "update_frequency: 1s", "daemonize: true", "daemonize: false", "log_mode: file", "log_mode: stdout",
		"http://127.0.0.1:8080/", "https://10.99.1.1:8480/", "insecure_skip_verify: false", "insecure_skip_verify: true", "pid_dir: /var/run/", "pid_dir: "+p.dir).Replace(string(text))
	b, err := p.edge.Start(bouncer, "-c", p.write("bouncer.yaml", conf))
	if err != nil {
		p.Fatal(err)
	}
	secondary := filepath.Join(p.dir, "nsd")
	if err := os.Mkdir(secondary, 0o700); err != nil {
		p.Fatal(err)
	}
	n, err := p.edge.Start(nsd, "-d", "-c", p.write("nsd.conf", fmt.Sprintf(`server:
 ip-address: 10.99.1.2
 username: ""
 chroot: ""
 zonesdir: %[1]q
 database: ""
 pidfile: "%[1]s/pid"
 xfrdfile: "%[1]s/xfrd"
 zonelistfile: "%[1]s/zones"
 xfrdir: %[1]q
 xfrd-reload-timeout: 0
remote-control:
 control-enable: no
zone:
 name: "bl.example.org"
 zonefile: "%[1]s/zone"
 allow-notify: 10.99.1.1 NOKEY
 request-xfr: AXFR 10.99.1.1 NOKEY
`, secondary)))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if p.Failed() {
			p.Logf("clearinghouse:\n%s\nbouncer:\n%s\nnsd:\n%s", p.process.Output(), b.Output(), n.Output())
		}
	})
}

func (p *published) awaitBlocked(what string, want bool) {
	p.Helper()
	for range 60 {
		c, err := p.dial(p.attacker, "tcp", "198.51.100.1:80")
		if err == nil {
			c.Close()
		}
		if (err != nil) == want {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	p.Fatalf("%s: blocked %v, want %v", what, !want, want)
}
