package sharing_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"dragnet/publish/mirror"
)

const mirrorURL = "http://10.99.1.2:8081/"

// serveMirror runs Debian's nginx on the edge.
func (p *published) serveMirror(nginx, root string) {
	p.Helper()
	conf := p.write("nginx.conf", fmt.Sprintf(`user root; daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr; events {}
http { access_log off; client_body_temp_path %[1]s/nb; proxy_temp_path %[1]s/np; fastcgi_temp_path %[1]s/nf; uwsgi_temp_path %[1]s/nu; scgi_temp_path %[1]s/nc;
server { listen 10.99.1.2:8081; root %[2]s; } }
`, p.dir, root))
	if _, err := p.edge.Start(nginx, "-c", conf); err != nil {
		p.Fatal(err)
	}
	for range 100 {
		if c, err := p.dial(p.edge, "tcp", "10.99.1.2:8081"); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.Fatal("nginx does not listen")
}

// checkOutlived checks what is there without a clearinghouse: a copy that verifies,
// a mirror for newcomers, the secondary, and the way to the mirror by what is left
// of the hash table.
func (p *published) checkOutlived(copied string, number int64) {
	p.Helper()
	publisher := []string{"--publisher", p.key.Public().String()}
	p.checkCopy("the copy", copied)
	newcomer := filepath.Join(p.dir, "newcomer")
	if out, err := p.edge.Run(p.Context(), program, append([]string{"feed", "subscribe", mirrorURL, newcomer}, publisher...)...); err != nil && !strings.Contains(out, mirror.ErrStale.Error()) {
		p.Errorf("a newcomer at the mirror: %v: %s", err, out)
	}
	p.checkCopy("a newcomer's copy", newcomer)
	if got := p.askDNS("10.99.1.2:53", listName, dns.TypeA); !strings.Contains(got, "127.0.0.2") {
		p.Errorf("the secondary says %s", got)
	}
	last := p.lastNumber()
	for _, n := range p.swarm.Nodes[:4] {
		n.Close()
	}
	// A publication of the last moment may not have been put into the table.
	found := p.findPointer()
	if found.Head.Number < last-1 || found.Head.Number == 0 {
		p.Errorf("with half of its nodes gone, the table points to publication %d of %d", found.Head.Number, last)
	}
	if found.Head.Number > number {
		p.Logf("the table points to publication %d, which was not copied before the clearinghouse was killed", found.Head.Number)
		return
	}
	byTable := filepath.Join(p.dir, "bytable")
	if out, err := p.edge.Run(p.Context(), program, append([]string{"feed", "subscribe", "dht://" + strings.Join(p.swarm.Addresses(), ","), byTable}, publisher...)...); err != nil && !strings.Contains(out, mirror.ErrStale.Error()) {
		p.Errorf("a newcomer who has the table only: %v: %s", err, out)
	}
	p.checkCopy("the copy of a newcomer who has the table only", byTable)
}

// checkCopy verifies a copy and looks for the attacker in it.
func (p *published) checkCopy(what, directory string) {
	p.Helper()
	out, err := p.edge.Run(p.Context(), program, "feed", "verify", directory, "--publisher", p.key.Public().String())
	// Its interval is two seconds, so the copy may be overdue by now: it says so, and what it holds is still right.
	if err != nil && !strings.Contains(out, mirror.ErrStale.Error()) {
		p.Errorf("%s: %v", what, err)
	}
	hosts, err := os.ReadFile(filepath.Join(directory, mirror.Current, "hosts4.txt"))
	if err != nil || !strings.Contains(string(hosts), attackerAddress) {
		p.Errorf("%s lists %q, %v", what, hosts, err)
	}
}

// lastNumber is that of the newest publication in the clearinghouse's folder.
func (p *published) lastNumber() int64 {
	p.Helper()
	m, err := mirror.Read(filepath.Join(p.dir, "feed", mirror.Current), p.key.Public(), time.Now())
	if m == nil {
		p.Fatal(err)
	}
	return m.Head.Number
}

func (p *published) awaitSecondary() {
	p.Helper()
	for range 100 {
		if strings.Contains(p.askDNS("10.99.1.2:53", listName, dns.TypeA), "127.0.0.2") {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	p.Fatal("the secondary does not follow")
}

// killClearinghouse ends it without warning.
func (p *published) killClearinghouse() error {
	process, err := os.FindProcess(p.process.Pid())
	if err != nil {
		return err
	}
	return process.Kill()
}
