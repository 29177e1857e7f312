package netflow

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// FuzzDecode hands two datagrams to a decoder, so that the first may be the
// template of the second; seeds are real ones where $DRAGNET_DATA is set.
func FuzzDecode(f *testing.F) {
	f.Add(message(1, 0, simple(256)), message(1, 0, simpleData(256)))
	f.Add(message(1, 0, set(3, []uint16{300, 3, 1, 149, 4, 305, 4, 306, 4})), message(1, 0, set(300, nil, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9)))
	f.Add(message(1, 0, set(2, []uint16{256, 3, 8, 4, 0x8001, 65535, 0, 9, 12, 4})), message(1, 0, set(256, nil, 10, 0, 0, 1, 2, 7, 7, 10, 0, 0, 2)))
	if os.Getenv("DRAGNET_DATA") != "" {
		_, all := vendors(f)
		for i := range all {
			f.Add(all[i], all[(i+1)%len(all)])
		}
		for _, file := range captures(f) {
			if filepath.Ext(file) == ".pcap" {
				if some := datagramsOf(f, file); len(some) > 1 {
					f.Add(some[0].Data, some[1].Data)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := New(Configuration{MaxExporters: 1, MaxDomains: 2, MaxTemplates: 4})
		from := netip.MustParseAddr("192.0.2.1")
		j := biflow.New(biflow.DefaultConfiguration(), func(f *flow.Flow) {
			if f.Duration < 0 {
				t.Fatalf("%+v", f)
			}
		})
		for _, b := range [][]byte{first, second, first} {
			records := 0
			err := d.Decode(0, from, b, func(r *biflow.Record) {
				records++
				if !r.Orig.IsValid() || !r.Resp.IsValid() || r.Duration < 0 || r.End() < r.Start {
					t.Fatalf("%+v", r)
				}
				j.Add(0, r)
			})
			if !expected(err) {
				t.Fatal(err)
			}
			// A record has at least two addresses.
			if records > len(b)/8 {
				t.Fatalf("%d records of %d bytes", records, len(b))
			}
		}
		j.Flush()
		text, err := d.Save()
		if err != nil {
			t.Fatal(err)
		}
		if err := New(d.config).Restore(0, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
