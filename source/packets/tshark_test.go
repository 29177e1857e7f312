package packets

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"

	"github.com/google/go-cmp/cmp"
)

// talk is a conversation in one direction.
type talk struct {
	proto    flow.Proto
	from, to netip.AddrPort
}

// TestConversationsAreThoseTsharkCounts compares packets per direction of
// every TCP and UDP conversation.
func TestConversationsAreThoseTsharkCounts(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	var files []string
	for _, dir := range []string{"ndpi", "benign"} {
		found, err := filepath.Glob(filepath.Join(testkit.Data(t, dir), "*.pcap"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := map[talk]uint64{}
			for _, f := range logged(t, file, ignoreChecksums) {
				if f.Proto != flow.TCP && f.Proto != flow.UDP {
					continue
				}
				orig, resp := netip.AddrPortFrom(f.Orig, f.OrigPort), netip.AddrPortFrom(f.Resp, f.RespPort)
				got[talk{f.Proto, orig, resp}] += f.OrigPkts
				got[talk{f.Proto, resp, orig}] += f.RespPkts
			}
			want := conversations(t, tshark, file)
			if len(want) == 0 {
				t.Error("tshark found no conversation")
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("-tshark +ours:\n%s", diff)
			}
		})
	}
}

// conversations asks tshark. Below a title such as "TCP Conversations" stand
// lines "A <-> B  frames bytes frames bytes ...", first of those that B sent.
func conversations(t *testing.T, tshark, file string) map[talk]uint64 {
	t.Helper()
	out, err := exec.Command(tshark, "-n", "-r", file, "-q", "-z", "conv,tcp", "-z", "conv,udp").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[talk]uint64{}
	var proto flow.Proto
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 2 && f[1] == "Conversations" {
			if proto, err = flow.ParseProto(f[0]); err != nil {
				t.Fatal(err)
			}
		}
		if len(f) < 9 || f[1] != "<->" {
			continue
		}
		a, b := end(t, f[0]), end(t, f[2])
		back, err1 := strconv.ParseUint(f[3], 10, 64)
		forth, err2 := strconv.ParseUint(f[6], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("tshark wrote %q", line)
		}
		got[talk{proto, a, b}] += forth
		got[talk{proto, b, a}] += back
	}
	return got
}

// end reads "address:port"; tshark writes no brackets around IPv6.
func end(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	i := strings.LastIndexByte(s, ':')
	addr, err1 := netip.ParseAddr(s[:i])
	port, err2 := strconv.ParseUint(s[i+1:], 10, 16)
	if err1 != nil || err2 != nil {
		t.Fatalf("tshark wrote the end %q", s)
	}
	return netip.AddrPortFrom(addr, uint16(port))
}
