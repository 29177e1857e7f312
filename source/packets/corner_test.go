package packets

import (
	"fmt"
	"slices"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// TestCornersOfTCP compares with what Zeek's tests say of single connections
// where they keep no connection log.
func TestCornersOfTCP(t *testing.T) {
	for _, c := range []struct {
		trace string
		how   options
		want  []string
	}{
		// core/tcp/rxmit-history
		{"tcp/retransmit-fast009.pcap", ignoreChecksums, []string{"10.0.88.85 > 192.168.0.27 RSTO ShADaGdgtR 474/23783 missed 24257 packets 17/22 bytes 1250/28961"}},
		// core/conn-size-flip
		{"tcp/ctu-64702-888.pcap", ignoreChecksums, []string{"192.168.1.108 > 185.33.86.224 SF ^hAfdtFr 0/13 missed 0 packets 8/8 bytes 320/370"}},
		{"tcp/one-sided-2745.pcap", ignoreChecksums | bare, []string{
			"247.180.123.139 > 245.181.165.133 SHR ^haf 0/0 missed 0 packets 0/3 bytes 0/140",
			"91.189.148.149 > 245.181.165.131 SHR ^haf 0/0 missed 0 packets 0/3 bytes 0/140",
		}},
		// core/connection_flipped: the SYN comes after its answer
		{"tcp/handshake-reorder.pcap", bare, []string{"141.142.228.5 > 192.150.187.43 SF Hs^ADadFf 136/5007 missed 0 packets 7/7 bytes 512/5379"}},
		// core/tcp/tcp-dups
		{"tcp/ssh-dups.pcap", ignoreChecksums | bare, []string{"192.168.0.102 > 192.168.0.112 SF ShADTadtTtFf 3705/4273 missed 0 packets 225/152 bytes 26532/25004"}},
		// core/tcp/fin-retransmit
		{"tcp/fin_retransmission.pcap", bare, []string{"10.1.30.117 > 17.167.193.62 RSTR SFhr 0/0 missed 0 packets 3/2 bytes 156/92"}},
		// core/tcp/rst-after-syn
		{"tcp/rst-inject-rae.pcap", bare, []string{"1.2.0.2 > 1.2.0.3 REJ SrhADa 175/0 missed 0 packets 4/5 bytes 395/236"}},
		// scripts/base/protocols/conn/conn_state-RST-behavior
		{"tcp/single-rst.pcap", ignoreChecksums, []string{"10.0.0.10 > 10.0.0.80 OTH R 0/0 missed 0 packets 1/0 bytes 40/0"}},
		{"tcp/syn-then-rst.pcap", ignoreChecksums, []string{"1.1.1.1 > 1.1.1.2 RSTOS0 SR 0/0 missed 0 packets 2/0 bytes 80/0"}},
		{"tcp/syn-then-ack-then-rst.pcap", ignoreChecksums, []string{"1.1.1.1 > 1.1.1.2 RSTOS0 SaR 0/0 missed 0 packets 2/1 bytes 80/40"}},
		{"tcp/syn-then-stuff-then-rst.pcap", ignoreChecksums, []string{"1.1.1.1 > 1.1.1.2 OTH SaFR 0/0 missed 0 packets 3/1 bytes 120/40"}},
	} {
		t.Run(c.trace, func(t *testing.T) {
			var got []string
			for _, f := range logged(t, testkit.Data(t, "zeek-traces", "Traces", c.trace), c.how) {
				got = append(got, fmt.Sprintf("%v > %v %v %s %d/%d missed %d packets %d/%d bytes %d/%d", f.Orig, f.Resp, f.State, f.History,
					f.OrigBytes, f.RespBytes, f.MissedBytes, f.OrigPkts, f.RespPkts, f.OrigIPBytes, f.RespIPBytes))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestFragmentsAreJoined reads datagrams that came in pieces.
func TestFragmentsAreJoined(t *testing.T) {
	// core/ipv6-frag: a DNS answer of 3230 octets in three pieces.
	flows := logged(t, testkit.Data(t, "zeek-traces", "Traces", "ipv6-fragmented-dns.pcap"), 0)
	if len(flows) != 2 || flows[1].RespBytes != 3230 || flows[1].RespPkts != 1 || flows[1].RespIPBytes != 3278 {
		t.Errorf("DNS over fragments: %+v", flows)
	}
	// A SYN cut inside its header, whose second piece completes it.
	flows = logged(t, testkit.Data(t, "zeek-traces", "Traces", "ipv4/fragmented-syn.pcap"), 0)
	if len(flows) != 1 || flows[0].State != flow.S0 || flows[0].RespPort != 80 || flows[0].OrigFlags != flow.SYN {
		t.Errorf("SYN in two fragments: %+v", flows)
	}
}
