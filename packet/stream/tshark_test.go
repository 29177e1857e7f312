package stream

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// TestSameAsTsharkFollows compares the bytes of every connection of some real
// captures, among them one full of retransmissions and one whose SYN comes
// after its answer, with "follow TCP stream".
func TestSameAsTsharkFollows(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	for _, file := range []string{"benign/http.pcap", "ndpi/irc.pcap", "zeek-traces/Traces/wikipedia.pcap",
		"zeek-traces/Traces/tcp/ssh-dups.pcap", "zeek-traces/Traces/tcp/handshake-reorder.pcap"} {
		t.Run(file, func(t *testing.T) {
			path := testkit.Data(t, file)
			got := assemble(t, path)
			all := follow(t, tshark, path, len(got))
			for ends, k := range got {
				if _, ok := all[ends]; !ok && k.String() != "|" {
					t.Errorf("%v: tshark has nothing, we %d bytes", ends, len(k.String()))
				}
			}
			for ends, want := range all {
				k, ok := got[ends]
				if !ok {
					t.Errorf("%v: tshark follows it, we do not", ends)
					continue
				}
				for dir := range want {
					if !bytes.Equal(k.text[dir].Bytes(), want[dir]) {
						t.Errorf("%v, direction %d: %d bytes, tshark has %d", ends, dir, k.text[dir].Len(), len(want[dir]))
					}
				}
			}
			if len(all) == 0 {
				t.Error("nothing to compare")
			}
		})
	}
}

// assemble reads a capture; connections have no ends in common in these.
func assemble(t *testing.T, path string) map[Key]*transcript {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[Key]*transcript{}
	config := DefaultConfiguration()
	config.IgnoreChecksums = true // as tshark does
	a := New(config, func(k Key) Handler {
		all[k] = new(transcript)
		return all[k]
	})
	var p packet.Packet
	for {
		rec, err := f.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Decode(rec.Link, rec.Data, rec.Wire) == nil {
			a.Packet(rec.Time, &p)
		}
	}
	a.Flush()
	return all
}

// follow asks tshark for the first n streams. It writes "Node 0: ADDR:PORT",
// the same for node 1, then lines of hex, those of node 1 after a tab.
func follow(t *testing.T, tshark, path string, n int) map[Key][2][]byte {
	t.Helper()
	args := []string{"-n", "-r", path, "-q"}
	for i := range n {
		args = append(args, "-z", fmt.Sprintf("follow,tcp,raw,%d", i))
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[Key][2][]byte{}
	var nodes [2]netip.AddrPort
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "Node "); ok {
			nodes[rest[0]-'0'] = netip.MustParseAddrPort(rest[3:])
			continue
		}
		dir := 0
		if strings.HasPrefix(line, "\t") {
			dir = 1
		}
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil || len(b) == 0 {
			continue // a rule or a title
		}
		// Node 0 is who sent the first segment; where that was a SYN-ACK, we
		// call it the server.
		key := Key{nodes[0], nodes[1]}
		if nodes[0].Port() < 1024 {
			key, dir = Key{nodes[1], nodes[0]}, dir^1
		}
		text := all[key]
		text[dir] = append(text[dir], b...)
		all[key] = text
	}
	return all
}
