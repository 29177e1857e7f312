package faillog

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"dragnet/daw"
)

// refused are lines as the devices write them, all of the same refused SYN.
var refused = map[string]string{
	"iptables":      `<4>Mar  1 09:00:00 fw kernel: [123.4] DROP IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 SRC=198.51.100.7 DST=192.0.2.10 LEN=60 TOS=0x00 PREC=0x00 TTL=52 ID=1 DF PROTO=TCP SPT=40000 DPT=23 WINDOW=64240 RES=0x00 SYN URGP=0`,
	"nftables":      `<4>Mar  1 09:00:00 fw kernel: in-drop IN=eth0 OUT=eth1 SRC=198.51.100.7 DST=192.0.2.10 LEN=44 TTL=240 ID=54321 PROTO=TCP SPT=40000 DPT=23 WINDOW=65535 RES=0x00 SYN URGP=0`,
	"filterlog":     `<134>1 2026-03-01T09:00:00+00:00 fw filterlog 123 - - : 5,,,1000000103,em0,match,block,in,4,0x0,,52,1,0,DF,6,tcp,60,198.51.100.7,192.0.2.10,40000,23,0,S,1234567,,64240,,mss`,
	"pflog":         `rule 0/(match) block in on em0: 198.51.100.7.40000 > 192.0.2.10.23: Flags [S], seq 1, win 65535, length 0`,
	"pflog, old":    `rule 0/(match): block in on em0: 198.51.100.7.40000 > 192.0.2.10.23: S 1:1(0) win 65535`,
	"ASA 106023":    `<164>Mar 01 2026 09:00:00: %ASA-4-106023: Deny tcp src outside:198.51.100.7/40000 dst inside:192.0.2.10/23 by access-group "outside_in" [0x0, 0x0]`,
	"ASA 106001":    `<162>%ASA-2-106001: Inbound TCP connection denied from 198.51.100.7/40000 to 192.0.2.10/23 flags SYN  on interface outside`,
	"IOS":           `<190>45: *Mar  1 09:00:00.123: %SEC-6-IPACCESSLOGP: list 101 denied tcp 198.51.100.7(40000) -> 192.0.2.10(23), 1 packet`,
	"IOS with MAC":  `%SEC-6-IPACCESSLOGP: list inbound denied tcp 198.51.100.7(40000) (GigabitEthernet0/1 0200.0000.0001) -> 192.0.2.10(23), 1 packet`,
	"ASA with user": `%ASA-4-106023: Deny tcp src outside:198.51.100.7/40000(user) dst inside:192.0.2.10/23 by access-group "x"`,
}

func TestEveryDevice(t *testing.T) {
	want := daw.FailLog{Time: 5, Src: netip.MustParseAddr("198.51.100.7"), Dst: netip.MustParseAddr("192.0.2.10"), SrcPort: 40000, DstPort: 23, Device: "fw"}
	for name, line := range refused {
		if got, err := Parse([]byte(line+"\n"), "fw", 5); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	v6 := `filterlog[1]: 5,,,1,em0,match,block,in,6,0x00,0x00000,64,tcp,6,40,2001:db8::1,2001:db8::2,40000,23,0,S,1,,65535,,`
	if got, err := Parse([]byte(v6), "fw", 5); err != nil || got.Src.String() != "2001:db8::1" || got.DstPort != 23 {
		t.Errorf("IPv6: %+v, %v", got, err)
	}
}

func TestOtherLinesAreNotCounted(t *testing.T) {
	for name, line := range map[string]string{
		"nothing":         "",
		"an answer":       `DROP IN=eth0 SRC=198.51.100.7 DST=192.0.2.10 PROTO=TCP SPT=80 DPT=40000 WINDOW=0 ACK SYN URGP=0`,
		"UDP":             `DROP IN=eth0 SRC=198.51.100.7 DST=192.0.2.10 PROTO=UDP SPT=80 DPT=53 LEN=40`,
		"an ICMP quote":   `DROP IN=eth0 SRC=198.51.100.7 DST=192.0.2.10 PROTO=ICMP TYPE=3 CODE=3 [SRC=192.0.2.10 DST=198.51.100.7 PROTO=TCP SPT=1 DPT=2 SYN ]`,
		"passed":          `filterlog: 5,,,1,em0,match,pass,in,4,0x0,,52,1,0,DF,6,tcp,60,198.51.100.7,192.0.2.10,40000,23,0,S,1,,1,,`,
		"pass, not block": `rule 0/(match) pass in on em0: 198.51.100.7.40000 > 192.0.2.10.23: Flags [S]`,
		"denied UDP":      `%ASA-4-106023: Deny udp src outside:198.51.100.7/40000 dst inside:192.0.2.10/53 by access-group "x"`,
	} {
		if got, err := Parse([]byte(line), "fw", 5); !errors.Is(err, ErrOther) {
			t.Errorf("%s: %+v, %v; want ErrOther", name, got, err)
		}
	}
	for _, broken := range []string{
		`DROP IN=eth0 SRC=nobody DST=192.0.2.10 PROTO=TCP SPT=1 DPT=2 SYN`,
		`DROP IN=eth0 SRC=192.0.2.1 DST=192.0.2.10 PROTO=TCP SPT=1 DPT=99999 SYN`,
		`DROP IN=eth0 SRC=192.0.2.10 DST=192.0.2.10 PROTO=TCP SPT=1 DPT=2 SYN`,
		string(make([]byte, 5000)),
	} {
		if _, err := Parse([]byte(broken), "fw", 5); err == nil || errors.Is(err, ErrOther) {
			t.Errorf("%.60q: %v, want an error that says what is wrong", broken, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range refused {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := Parse(line, "fw", 1)
		if err == nil && l.Validate() != nil {
			t.Errorf("%q yields a message that is not valid: %+v", line, l)
		}
	})
}

func TestReceiverBelievesNamedDevicesOnly(t *testing.T) {
	got := make(chan daw.FailLog, 10)
	r, err := New(Configuration{Listen: "127.0.0.1:0", Devices: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, func(l daw.FailLog) { got <- l })
	if err != nil {
		t.Fatal(err)
	}
	conn, err := r.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, conn) }()
	send := func(from, text string) {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, conn.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send("127.0.0.9", refused["IOS"])
	send("127.0.0.1", "hello")
	send("127.0.0.1", refused["iptables"])
	select {
	case l := <-got:
		if l.Device != "127.0.0.1" || l.DstPort != 23 {
			t.Errorf("%+v", l)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing received")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r.Strangers.Load() != 1 || r.Other.Load() != 1 || r.Taken.Load() != 1 {
		t.Errorf("strangers %d, other %d, taken %d; want one each", r.Strangers.Load(), r.Other.Load(), r.Taken.Load())
	}
	if _, err := New(Configuration{Listen: ":514"}, nil); err == nil {
		t.Error("a receiver that believes everybody")
	}
}
