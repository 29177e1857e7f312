package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/internal/unpack"
	"dragnet/packet"
)

// block is one pcapng block; body is padded.
func block(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	n := uint32(len(body) + 12)
	b := order.AppendUint32(order.AppendUint32(nil, kind), n)
	return order.AppendUint32(append(b, body...), n)
}

// section is a section header.
func section(order binary.AppendByteOrder) []byte {
	b := order.AppendUint32(nil, 0x1a2b3c4d)
	b = order.AppendUint16(order.AppendUint16(b, 1), 0)
	return block(order, blockSection, order.AppendUint64(b, ^uint64(0)))
}

// describe is an interface with options given as code, length and value.
func describe(order binary.AppendByteOrder, link packet.LinkType, options ...[]byte) []byte {
	b := order.AppendUint16(order.AppendUint16(nil, uint16(link)), 0)
	b = order.AppendUint32(b, 0)
	return block(order, blockInterface, append(b, bytes.Join(options, nil)...))
}

// enhanced is a packet on an interface with a count of its clock.
func enhanced(order binary.AppendByteOrder, iface uint32, count uint64, data string) []byte {
	b := order.AppendUint32(nil, iface)
	for _, v := range []uint32{uint32(count >> 32), uint32(count), uint32(len(data)), uint32(len(data))} {
		b = order.AppendUint32(b, v)
	}
	return block(order, blockEnhanced, append(b, data...))
}

func TestPcapngSectionsAndClocks(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	nano := []byte{9, 0, 1, 0, 9, 0, 0, 0}           // if_tsresol 10^-9
	binaryClock := []byte{0, 9, 0, 1, 0x8a, 0, 0, 0} // if_tsresol 2^-10
	offset := []byte{0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 100}
	file := bytes.Join([][]byte{
		section(le), describe(le, packet.LinkEthernet), describe(le, packet.LinkRaw, nano),
		enhanced(le, 0, 5_000_001, "micro"),
		block(le, 5, make([]byte, 100)), // statistics
		enhanced(le, 1, 7_000_000_001, "nano"),
		section(be), describe(be, packet.LinkLinuxSLL, binaryClock, offset),
		enhanced(be, 0, 3*1024+512, "offset"),
		enhanced(be, 1, 0, "no interface described it"),
	}, nil)
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	got, skipped, end := all(r)
	if len(got) != 3 || skipped != 1 || end != io.EOF {
		t.Fatalf("%d packets, %d skipped, %v", len(got), skipped, end)
	}
	for i, w := range []Record{
		{1, 5_000_001_000, packet.LinkEthernet, []byte("micro"), 5, UnknownDirection},
		{2, 7_000_000_001, packet.LinkRaw, []byte("nano"), 4, UnknownDirection},
		{3, 103_500_000_000, packet.LinkLinuxSLL, []byte("offset"), 6, UnknownDirection},
	} {
		if g := got[i]; g.Number != w.Number || g.Time != w.Time || g.Link != w.Link || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
}

func TestBrokenPcapng(t *testing.T) {
	le := binary.LittleEndian
	head := append(section(le), describe(le, packet.LinkRaw)...)
	good := enhanced(le, 0, 1, "abcd")
	edit := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		le.PutUint32(b[at:], v)
		return b
	}
	fast := []byte{9, 0, 1, 0, 0x80 | 70, 0, 0, 0} // if_tsresol 2^-70
	for _, c := range []struct {
		name    string
		blocks  [][]byte
		packets int
		skipped int
		want    string
	}{
		{"captured length beyond its block", [][]byte{edit(20, 500), good}, 1, 1, "EOF"},
		{"no bytes", [][]byte{enhanced(le, 0, 1, ""), good}, 1, 1, "EOF"},
		{"no time", [][]byte{block(le, blockSimple, []byte("\x04\x00\x00\x00abcd")), good}, 1, 1, "EOF"},
		{"clock too fast for 64 bits", [][]byte{describe(le, packet.LinkRaw, fast), enhanced(le, 1, 9, "x"), good}, 1, 1, "EOF"},
		{"time in the year 500000", [][]byte{enhanced(le, 0, ^uint64(0), "x"), good}, 1, 1, "EOF"},
		{"packet block too short", [][]byte{block(le, blockEnhanced, make([]byte, 8)), good}, 1, 1, "EOF"},
		{"block length not a multiple of four", [][]byte{good, edit(4, 37)}, 1, 0, "packet 2: block length 37 is impossible"},
		{"block length too small", [][]byte{good, edit(4, 8)}, 1, 0, "packet 2: block length 8 is impossible"},
		{"block length enormous", [][]byte{good, edit(4, 1<<31)}, 1, 0, "packet 2: block length 2147483648 is impossible"},
		{"lengths disagree", [][]byte{good, edit(len(good)-4, 44)}, 1, 0, "packet 2: block has length 36 at its start and 44 at its end"},
		{"cut", [][]byte{good, good[:len(good)-1]}, 1, 0, "packet 2: the file ends inside it"},
		{"cut in an unknown block", [][]byte{good, block(le, 99, make([]byte, 64))[:30]}, 1, 0, "packet 2: the file ends inside it"},
		{"section without byte order", [][]byte{good, block(le, blockSection, make([]byte, 16))}, 1, 0, "packet 2: section header has no byte-order mark"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(append(bytes.Clone(head), bytes.Join(c.blocks, nil)...)))
			if err != nil {
				t.Fatal(err)
			}
			got, skipped, end := all(r)
			if len(got) != c.packets || skipped != c.skipped || !strings.HasPrefix(end.Error(), c.want) {
				t.Errorf("%d packets, %d skipped, %q", len(got), skipped, end)
			}
		})
	}
}

// FuzzCapture reads arbitrary bytes as a file, whole and cut: the packets of
// the cut file are those of the whole one, and no length is believed.
func FuzzCapture(f *testing.F) {
	f.Add(pcapFile(0xa1b2c3d4, binary.LittleEndian, []byte("one"), []byte("two")), uint16(50))
	f.Add(bytes.Join([][]byte{section(binary.BigEndian), describe(binary.BigEndian, 1), enhanced(binary.BigEndian, 0, 7, "abc")}, nil), uint16(60))
	f.Fuzz(func(t *testing.T, file []byte, cut uint16) {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		whole, _, _ := all(r)
		for i, rec := range whole {
			if len(rec.Data) == 0 || len(rec.Data) > MaxPacket || rec.Wire < len(rec.Data) || rec.Time < flow.MinTime/2 {
				t.Fatalf("record %d: %+v", i, rec)
			}
		}
		if int(cut) >= len(file) || unpack.Detect(file) != unpack.Plain {
			return
		}
		r, err = NewReader(bytes.NewReader(file[:cut]))
		if err != nil {
			return
		}
		part, _, _ := all(r)
		if len(part) > len(whole) {
			t.Fatalf("%d packets of a cut file, %d of the whole", len(part), len(whole))
		}
		for i := range part {
			if part[i].Time != whole[i].Time || !bytes.Equal(part[i].Data, whole[i].Data) {
				t.Fatalf("packet %d differs in the cut file", i)
			}
		}
	})
}

// TestEveryCut reads a real capture cut at every length.
func TestEveryCut(t *testing.T) {
	for _, name := range []string{"zeek-traces/Traces/tcp/retransmit-timeout.pcapng", "zeek-traces/Traces/tcp/syn-synack.pcap"} {
		file, err := os.ReadFile(testkit.Data(t, name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		whole, _, end := all(r)
		if end != io.EOF || len(whole) == 0 {
			t.Fatalf("%s: %d packets, %v", name, len(whole), end)
		}
		step := 1 + len(file)/5000
		for n := 28; n < len(file); n += step {
			r, err := NewReader(bytes.NewReader(file[:n]))
			if err != nil {
				continue
			}
			part, _, _ := all(r)
			for i := range part {
				if !bytes.Equal(part[i].Data, whole[i].Data) {
					t.Fatalf("%s cut at %d: packet %d differs", name, n, i+1)
				}
			}
		}
	}
}
