// Package sourcetest reads logs and recorded exports for the tests of sources.
package sourcetest

import (
	"io"
	"net/netip"
	"slices"
	"testing"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/source/lines"
)

// ReadAll reads a log to its end.
func ReadAll(t testing.TB, r *lines.Reader) (flows []flow.Flow) {
	t.Helper()
	for {
		batch, err := r.Next()
		if err == io.EOF {
			return flows
		}
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, batch...)
	}
}

// Datagram is one UDP payload of a capture.
type Datagram struct {
	At   flow.Time
	From netip.Addr
	Data []byte
}

// Datagrams reads the UDP payloads of a capture that is finds to be of its
// kind, fragments joined.
func Datagrams(t testing.TB, path string, is func([]byte) bool) (all []Datagram) {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var p packet.Packet
	fragments := packet.NewDefragmenter()
	for {
		rec, err := f.Next()
		if err != nil {
			return all
		}
		if p.Decode(rec.Link, rec.Data, rec.Wire) != nil || p.Proto != flow.UDP {
			continue
		}
		if p.Fragment {
			if whole, err := fragments.Add(rec.Time, &p); err != nil || !whole {
				continue
			}
		}
		if is(p.Payload) {
			all = append(all, Datagram{rec.Time, p.Src, slices.Clone(p.Payload)})
		}
	}
}
