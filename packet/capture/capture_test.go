package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/pcapgo"
)

// copied is a Record that stays valid.
func copied(r Record) Record {
	r.Data = slices.Clone(r.Data)
	return r
}

// all reads everything; skipped counts SkipErrors, end is the last error.
func all(r *Reader) (records []Record, skipped int, end error) {
	for {
		rec, err := r.Next()
		var skip *SkipError
		switch {
		case err == nil:
			records = append(records, copied(rec))
		case errors.As(err, &skip):
			skipped++
		default:
			return records, skipped, err
		}
	}
}

// pcapFile is a little-endian pcap file of raw IP with the given packets, a
// second apart.
func pcapFile(magic uint32, order binary.AppendByteOrder, packets ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 65535), uint32(packet.LinkRaw))
	for i, p := range packets {
		for _, v := range []uint32{uint32(i + 1), 500, uint32(len(p)), uint32(len(p)) + 7} {
			b = order.AppendUint32(b, v)
		}
		b = append(b, p...)
	}
	return b
}

func TestPcapVariants(t *testing.T) {
	for _, c := range []struct {
		name  string
		magic uint32
		order binary.AppendByteOrder
		unit  time.Duration
	}{
		{"microseconds, little-endian", 0xa1b2c3d4, binary.LittleEndian, time.Microsecond},
		{"microseconds, big-endian", 0xa1b2c3d4, binary.BigEndian, time.Microsecond},
		{"nanoseconds, little-endian", 0xa1b23c4d, binary.LittleEndian, 1},
		{"nanoseconds, big-endian", 0xa1b23c4d, binary.BigEndian, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(pcapFile(c.magic, c.order, []byte("one"), []byte("other"))))
			if err != nil {
				t.Fatal(err)
			}
			got, _, end := all(r)
			if len(got) != 2 || end != io.EOF {
				t.Fatalf("%d packets, %v", len(got), end)
			}
			want := Record{2, flow.Time(2e9 + 500*c.unit), packet.LinkRaw, []byte("other"), 12, UnknownDirection}
			if g := got[1]; g.Number != want.Number || g.Time != want.Time || g.Link != want.Link || string(g.Data) != "other" || g.Wire != want.Wire {
				t.Errorf("got %+v, want %+v", g, want)
			}
		})
	}
}

func TestGzip(t *testing.T) {
	var b bytes.Buffer
	for _, part := range bytes.SplitAfter(pcapFile(0xa1b2c3d4, binary.LittleEndian, []byte("one"), []byte("two")), []byte("one")) {
		z := gzip.NewWriter(&b) // several members, as appended logs have
		z.Write(part)
		z.Close()
	}
	r, err := NewReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, end := all(r); len(got) != 2 || end != io.EOF {
		t.Errorf("%d packets, %v", len(got), end)
	}
	r, err = NewReader(bytes.NewReader(b.Bytes()[:b.Len()-6]))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, end := all(r); len(got) == 0 || end == io.EOF {
		t.Errorf("cut gzip: %d packets, %v", len(got), end)
	}
}

func TestBrokenFiles(t *testing.T) {
	good := pcapFile(0xa1b2c3d4, binary.LittleEndian, []byte("one"), []byte("two"))
	second := 24 + 16 + 3
	set := func(at int, v uint32) []byte {
		b := slices.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name    string
		file    []byte
		packets int
		skipped int
		want    string
	}{
		{"cut in a packet", good[:len(good)-1], 1, 0, "packet 2: the file ends inside it; the 1 packets before it were read"},
		{"cut in a packet header", good[:second+5], 1, 0, "packet 2: the file ends inside it; the 1 packets before it were read"},
		{"oversized", set(second+8, 1<<30), 1, 0, "packet 2: captured length 1073741824 is impossible (at most 262144); the 1 packets before it were read"},
		{"absurd wire length", set(second+12, 1<<31), 2, 0, "EOF"},
		{"empty packet", pcapFile(0xa1b2c3d4, binary.LittleEndian, []byte("one"), nil, []byte("two")), 2, 1, "EOF"},
		{"no packet", good[:24], 0, 0, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(c.file))
			if err != nil {
				t.Fatal(err)
			}
			got, skipped, end := all(r)
			if len(got) != c.packets || skipped != c.skipped || end.Error() != c.want {
				t.Errorf("%d packets, %d skipped, %q", len(got), skipped, end)
			}
			if _, again := r.Next(); again != end {
				t.Errorf("then %v", again)
			}
		})
	}
	for name, file := range map[string][]byte{
		"empty": nil, "short": good[:3], "header cut": good[:20], "text": []byte("#separator \\x09\n"),
		"version 9": func() []byte { b := slices.Clone(good); b[4] = 9; return b }(),
		"bad gzip":  {0x1f, 0x8b, 9, 9},
	} {
		if _, err := NewReader(bytes.NewReader(file)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// captures are all capture files of the shared data.
func captures(t testing.TB) (paths []string) {
	root := testkit.Data(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimSuffix(path, ".gz")
		if err == nil && !d.IsDir() && slices.Contains([]string{".pcap", ".pcapng", ".cap"}, filepath.Ext(name)) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) < 100 {
		t.Fatalf("%d captures, %v", len(paths), err)
	}
	return paths
}

// TestSameAsPcapgo compares every capture with gopacket's reader.
func TestSameAsPcapgo(t *testing.T) {
	for _, path := range captures(t) {
		f, err := Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		got, skipped, end := all(f.Reader)
		f.Close()
		if end != io.EOF {
			t.Errorf("%s: %v", path, end)
		}
		want := pcapgoRecords(t, path)
		if len(got)+skipped != len(want) {
			t.Errorf("%s: %d packets and %d skipped, pcapgo reads %d", path, len(got), skipped, len(want))
			continue
		}
		for _, g := range got {
			w := want[g.Number-1]
			if g.Time != w.Time || !bytes.Equal(g.Data, w.Data) || g.Wire != w.Wire {
				t.Errorf("%s: packet %d: %v %d/%d, pcapgo %v %d/%d", path, g.Number, g.Time, len(g.Data), g.Wire, w.Time, len(w.Data), w.Wire)
				break
			}
		}
	}
}

func pcapgoRecords(t *testing.T, path string) (records []Record) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	var src gopacket.PacketDataSource
	if binary.BigEndian.Uint32(data) == blockSection {
		src, err = pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	} else {
		src, err = pcapgo.NewReader(bytes.NewReader(data))
	}
	if err != nil {
		t.Fatalf("%s: pcapgo: %v", path, err)
	}
	for {
		b, info, err := src.ReadPacketData()
		if err == io.EOF {
			return records
		}
		if err != nil {
			t.Fatalf("%s: pcapgo: %v", path, err)
		}
		records = append(records, Record{Time: flow.FromTime(info.Timestamp), Data: b, Wire: info.Length})
	}
}
