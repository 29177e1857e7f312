package path_test

import (
	"bytes"
	"testing"

	"dragnet/contain/ripcord/path"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
	"dragnet/packet"
)

// FuzzJudge gives a path that holds connections any frame: it never reaches
// outside, keeps right checksums right, and changes nothing but sequence
// numbers and checksums.
func FuzzJudge(f *testing.F) {
	warm := func() *path.Path {
		p := path.New(tables.DefaultSettings())
		p.Secret, p.Budget, p.NS = [2]uint64{1, 2}, [3]int32{2, 4, 1}, 5e9
		r := pathtest.NewRandom(3, p)
		for range 400 {
			side, frame := r.Next()
			p.Judge(side, frame, false)
			p.NS += 1e6
		}
		return p
	}
	p := warm()
	r := pathtest.NewRandom(4, p)
	for range 60 {
		side, frame := r.Next()
		f.Add(frame, side == tables.In, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, in, gso bool) {
		p := warm()
		side := tables.Out
		if in {
			side = tables.In
		}
		var before, after packet.Packet
		good := before.Decode(packet.LinkEthernet, bytes.Clone(b), len(b)) == nil && before.Checksum() == packet.ChecksumGood
		frame := bytes.Clone(b)
		why, pass := p.Judge(side, frame, gso)
		if why >= tables.Reasons || pass != !why.Dropped() {
			t.Fatalf("%v, passes: %v", why, pass)
		}
		if !pass || !good {
			return
		}
		if err := after.Decode(packet.LinkEthernet, frame, len(frame)); err != nil || after.Checksum() != packet.ChecksumGood {
			t.Fatalf("a packet in order became one that is not: %v, %v\n%x\n%x", err, after.Checksum(), b, frame)
		}
		if !bytes.Equal(after.Payload, before.Payload) && after.Proto == 6 || after.Src != before.Src || after.Flags != before.Flags {
			t.Fatalf("more than numbers changed:\n%x\n%x", b, frame)
		}
	})
}
