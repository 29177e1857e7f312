package dnsbl_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dragnet/internal/testkit"
	"dragnet/publish/dnsbl"
	"dragnet/publish/publishtest"
)

// TestSecondaryOutlivesUs transfers the zone to Debian's nsd, changes it, and
// ends the primary; the second time with a key, without which nsd takes nothing.
func TestSecondaryOutlivesUs(t *testing.T) {
	for _, key := range []string{"NOKEY", "transfer"} {
		t.Run(key, func(t *testing.T) { testSecondary(t, key) })
	}
}

// transferSecret is a key of 32 bytes.
const transferSecret = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="

func withKey(c *dnsbl.Configuration) { c.TransferKey, c.TransferSecret = "transfer", transferSecret }

func testSecondary(t *testing.T, key string) {
	nsd := testkit.Tool(t, "nsd")
	port, dir := freePort(t), t.TempDir()
	l := start(t, func(c *dnsbl.Configuration) {
		if c.Secondaries = []string{"127.0.0.1:" + port}; key != "NOKEY" {
			withKey(c)
		}
	})
	conf := filepath.Join(dir, "nsd.conf")
	text := fmt.Sprintf(`server:
 ip-address: 127.0.0.1@%[1]s
 username: ""
 chroot: ""
 zonesdir: %[2]q
 database: ""
 pidfile: "%[2]s/pid"
 xfrdfile: "%[2]s/xfrd"
 zonelistfile: "%[2]s/zones"
 xfrdir: %[2]q
 xfrd-reload-timeout: 0
remote-control:
 control-enable: no
key:
 name: "transfer"
 algorithm: hmac-sha256
 secret: %[5]q
zone:
 name: "bl.example.org"
 zonefile: "%[2]s/zone"
 allow-notify: 127.0.0.1 %[4]s
 request-xfr: AXFR 127.0.0.1@%[3]s %[4]s
`, port, dir, l.port(), key, transferSecret)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, nsd, "-d", "-c", conf)
	eventually(t, port, "7.100.51.198."+zone, dns.TypeA, "127.0.0.2")
	eventually(t, port, six, dns.TypeA, "127.0.0.2")
	l.source.Advance(time.Hour)
	l.source.Withdraw("g1", "198.51.100.7")
	l.source.List("g3", nil, 80, "203.0.113.77")
	l.server.Update(publishtest.Refresh(t, l.feed)) // NOTIFY
	eventually(t, port, "77.113.0.203."+zone, dns.TypeA, "127.0.0.2")
	eventually(t, port, "7.100.51.198."+zone, dns.TypeA, "NXDOMAIN")
	l.stop()
	eventually(t, port, "77.113.0.203."+zone, dns.TypeTXT, "undisclosed pattern")
	eventually(t, port, "2.0.0.127."+zone, dns.TypeA, "127.0.0.2")
}

// TestTransferNeedsTheKey asks without a key, with others, and with a request of
// an hour ago.
func TestTransferNeedsTheKey(t *testing.T) {
	l := start(t, func(c *dnsbl.Configuration) {
		c.Secondaries, c.MinConfidence = []string{"127.0.0.1"}, 0
		withKey(c)
	})
	l.source.Fill(3000) // many messages, each signed after the one before
	l.server.Update(publishtest.Refresh(t, l.feed))
	transfer := func(name, secret, algorithm string, at time.Time) (records int, err error) {
		m := new(dns.Msg)
		m.SetAxfr(zone)
		x := new(dns.Transfer)
		if name != "" {
			m.SetTsig(name, algorithm, 300, at.Unix())
			x.TsigSecret = map[string]string{name: secret}
		}
		in, err := x.In(m, l.server.Address())
		if err != nil {
			return 0, err
		}
		for e := range in {
			if err = errors.Join(err, e.Error); err == nil {
				records += len(e.RR)
			}
		}
		return records, err
	}
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, try := range map[string]func() (int, error){
		"no key":         func() (int, error) { return transfer("", "", "", time.Time{}) },
		"another secret": func() (int, error) { return transfer("transfer.", other, dns.HmacSHA256, time.Now()) },
		"another name":   func() (int, error) { return transfer("other.", transferSecret, dns.HmacSHA256, time.Now()) },
		"an hour old": func() (int, error) {
			return transfer("transfer.", transferSecret, dns.HmacSHA256, time.Now().Add(-time.Hour))
		},
		"another algorithm": func() (int, error) { return transfer("transfer.", transferSecret, dns.HmacSHA1, time.Now()) },
	} {
		if n, err := try(); n != 0 || err == nil {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
	}
	if l.server.Transfers.Load() != 0 {
		t.Errorf("%d transfers", l.server.Transfers.Load())
	}
	if n, err := transfer("transfer.", transferSecret, dns.HmacSHA256, time.Now()); err != nil || n < 6000 {
		t.Errorf("with the key: %d records, %v", n, err)
	}
	if got := l.ask("7.100.51.198."+zone, dns.TypeA); len(got.Answer) != 1 || got.IsTsig() != nil {
		t.Errorf("who asks without a key gets %v", got)
	}
}

// TestTransferIsTheZone compares a transfer of many hosts with single answers.
func TestTransferIsTheZone(t *testing.T) {
	l := start(t, func(c *dnsbl.Configuration) { c.Secondaries, c.MinConfidence = []string{"127.0.0.1"}, 0 })
	l.source.Fill(3000)
	l.server.Update(publishtest.Refresh(t, l.feed))
	m := new(dns.Msg)
	m.SetAxfr(zone)
	in, err := new(dns.Transfer).In(m, l.server.Address())
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]int{}
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			records[dns.TypeToString[rr.Header().Rrtype]]++
		}
	}
	if records["A"] != 3000+3+2 || records["TXT"] != records["A"] || records["SOA"] != 2 || records["NS"] != 2 {
		t.Errorf("transferred %v", records)
	}
	for i := 0; i < 3000; i += 97 {
		host := publishtest.Host(i)
		name, err := dns.ReverseAddr(host.String())
		if err != nil {
			t.Fatal(err)
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "in-addr.arpa."), "ip6.arpa.") + zone
		if a := l.ask(name, dns.TypeA); len(a.Answer) != 1 {
			t.Errorf("%s is not listed: %v", host, a)
		}
	}
}
