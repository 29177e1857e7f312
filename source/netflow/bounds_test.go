package netflow

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// message makes an IPFIX message of sets.
func message(domain, sequence uint32, sets ...[]byte) []byte {
	b := make([]byte, headerIPFIX)
	for _, s := range sets {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b, 10)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], 1_700_000_000)
	binary.BigEndian.PutUint32(b[8:], sequence)
	binary.BigEndian.PutUint32(b[12:], domain)
	return b
}

// set makes a set of numbers of 16 bits and, behind them, bytes.
func set(id uint16, numbers []uint16, more ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, uint16(4+2*len(numbers)+len(more)))
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, more...)
}

var home = netip.MustParseAddr("192.0.2.1")

// simple is a template of addresses, protocol, packets and flags.
func simple(id uint16) []byte { return set(2, []uint16{id, 5, 8, 4, 12, 4, 4, 1, 2, 2, 6, 1}) }

func simpleData(id uint16) []byte {
	return set(id, nil, 10, 0, 0, 1, 10, 0, 0, 2, 6, 0, 3, 2)
}

func collect(into *[]biflow.Record) func(*biflow.Record) {
	return func(r *biflow.Record) { *into = append(*into, *r) }
}

func TestMemoryIsBounded(t *testing.T) {
	d := New(Configuration{MaxExporters: 3, MaxDomains: 4, MaxTemplates: 5})
	var got []biflow.Record
	for exporter := range 10 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(exporter)})
		for domain := range uint32(20) {
			for id := range uint16(50) {
				err := d.Decode(flow.Time(id), from, message(domain, 0, simple(256+id), simpleData(256+id)), collect(&got))
				if (err == ErrBound) != (exporter >= 3) {
					t.Fatalf("exporter %d: %v", exporter, err)
				}
			}
		}
	}
	if d.exporters.Len() != 3 || d.Refused != 7*20*50 {
		t.Errorf("%d exporters, %d refused", d.exporters.Len(), d.Refused)
	}
	for _, e := range d.exporters.All() {
		if e.domains.Len() != 4 {
			t.Errorf("%d domains", e.domains.Len())
		}
		for _, o := range e.domains.All() {
			if o.templates.Len() != 5 {
				t.Errorf("%d templates", o.templates.Len())
			}
		}
		if e.Forgotten != 20*50-4*5 {
			t.Errorf("%d forgotten", e.Forgotten)
		}
	}
	// One that is silent for more than an hour gives way.
	if err := d.Decode(flow.Time(2*time.Hour), netip.MustParseAddr("192.0.2.9"), message(1, 0, simple(256)), nil); err != nil {
		t.Error(err)
	}
}

func TestAFloodLeavesOtherExportersAlone(t *testing.T) {
	d := New(Configuration{MaxExporters: 2, MaxDomains: 2, MaxTemplates: 2})
	var got []biflow.Record
	if err := d.Decode(0, home, message(1, 0, simple(256)), nil); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(5000) {
		_ = d.Decode(1, netip.MustParseAddr("192.0.2.66"), message(uint32(id), 0, set(2, []uint16{256 + id%9, 1, 1, 65535})), nil)
	}
	if err := d.Decode(2, home, message(1, 0, simpleData(256)), collect(&got)); err != nil || len(got) != 1 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestDatagramsThatLie(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                     {},
		"one byte":                  {0},
		"no header":                 {0, 9, 0, 1},
		"no header, IPFIX":          {0, 10, 0, 16},
		"no header, version 5":      {0, 5, 0, 30},
		"length below header":       append([]byte{0, 10, 0, 3}, make([]byte, 30)...),
		"set length 0":              message(1, 0, []byte{1, 0, 0, 0}),
		"set length 3":              message(1, 0, []byte{1, 0, 0, 3, 9}),
		"set length beyond":         message(1, 0, []byte{1, 0, 255, 255}),
		"65535 fields":              message(1, 0, set(2, []uint16{256, 65535, 8, 4})),
		"fields missing":            message(1, 0, set(2, []uint16{256, 30, 8, 4})),
		"enterprise number missing": message(1, 0, set(2, []uint16{256, 1, 0x8001, 4})),
		"records without bytes":     message(1, 0, set(2, []uint16{256, 2, 8, 0, 12, 0})),
		"template number 2":         message(1, 0, set(2, []uint16{2, 1, 8, 4})),
		"more scopes than fields":   message(1, 0, set(3, []uint16{256, 1, 2, 8, 4})),
		"options without scopes":    message(1, 0, set(3, []uint16{256, 1})),
	} {
		d := New(DefaultConfiguration())
		if err := d.Decode(0, home, b, nil); err == nil || !expected(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFieldsOfVariableLength(t *testing.T) {
	d := New(DefaultConfiguration())
	var got []biflow.Record
	// An enterprise field of variable length between the addresses.
	tpl := set(2, []uint16{256, 3, 8, 4, 0x8001, 65535, 0, 9, 12, 4})
	long := append([]byte{10, 0, 0, 1, 255, 0xff, 0x00}, make([]byte, 0xff00)...)
	long = append(long, 10, 0, 0, 2)
	for name, c := range map[string]struct {
		data    []byte
		records int
		err     error
	}{
		"empty":        {[]byte{10, 0, 0, 1, 0, 10, 0, 0, 2}, 1, nil},
		"short, twice": {[]byte{10, 0, 0, 1, 2, 7, 7, 10, 0, 0, 2, 10, 0, 0, 1, 0, 10, 0, 0, 3}, 2, nil},
		"65280 bytes":  {long, 1, nil},
		"beyond":       {[]byte{10, 0, 0, 1, 255, 0xff, 0xff, 1, 1}, 0, ErrTruncated},
		"half length":  {[]byte{10, 0, 0, 1, 255, 0xff, 1, 1, 1}, 0, ErrTruncated},
	} {
		got = nil
		_ = d.Decode(0, home, message(1, 0, tpl), nil)
		if err := d.Decode(0, home, message(1, 0, set(256, nil, c.data...)), collect(&got)); err != c.err || len(got) != c.records {
			t.Errorf("%s: %d records, %v", name, len(got), err)
		}
	}
}

// Open vSwitch sends deltas of the flow and totals of all flows in one record, the
// totals last.
func TestDeltasGoBeforeTotals(t *testing.T) {
	for name, c := range map[string]struct {
		fields []uint16
		want   [2]uint64
	}{
		"delta, then total": {[]uint16{2, 1, 86, 1, 1, 1, 85, 1}, [2]uint64{1, 3}},
		"total, then delta": {[]uint16{86, 1, 2, 1, 85, 1, 1, 1}, [2]uint64{2, 4}},
		"totals only":       {[]uint16{86, 1, 999, 1, 85, 1, 998, 1}, [2]uint64{1, 3}},
		"one of each":       {[]uint16{86, 1, 999, 1, 85, 1, 1, 1}, [2]uint64{1, 4}},
	} {
		d := New(DefaultConfiguration())
		var got []biflow.Record
		tpl := append([]uint16{256, 6, 8, 4, 12, 4}, c.fields...)
		if err := d.Decode(0, home, message(1, 0, set(2, tpl), set(256, nil, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4)), collect(&got)); err != nil || len(got) != 1 {
			t.Fatalf("%s: %d records, %v", name, len(got), err)
		}
		if have := [2]uint64{got[0].OrigPkts, got[0].OrigIPBytes}; have != c.want {
			t.Errorf("%s: packets and bytes %v, want %v", name, have, c.want)
		}
	}
}

func TestTemplatesCanBeWithdrawn(t *testing.T) {
	d := New(DefaultConfiguration())
	var got []biflow.Record
	_ = d.Decode(0, home, message(1, 0, simple(256), simple(257), simple(258)), nil)
	_ = d.Decode(0, home, message(1, 0, set(2, []uint16{256, 0})), nil)
	_ = d.Decode(0, home, message(1, 0, simpleData(256), simpleData(257)), collect(&got))
	_ = d.Decode(0, home, message(1, 2, set(2, []uint16{2, 0})), nil)
	_ = d.Decode(0, home, message(1, 2, simpleData(258)), collect(&got))
	if c := d.Counters()[home]; len(got) != 1 || c.UnknownTemplate != 2 {
		t.Errorf("%d records, %+v", len(got), c)
	}
}

// TestSampling covers each way an exporter may announce its rate, the option
// behind the data it is about.
func TestSampling(t *testing.T) {
	const domain, other = 149, 2
	words := func(numbers ...uint32) (b []byte) {
		for _, n := range numbers {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	for name, c := range map[string]struct {
		option []uint16
		data   []byte
		want   uint32
	}{
		"interval":                   {[]uint16{300, 2, 1, domain, 4, 34, 4}, words(1, 100), 100},
		"interval of random samples": {[]uint16{300, 2, 1, domain, 4, 50, 4}, words(1, 100), 100},
		"packets and space":          {[]uint16{300, 3, 1, domain, 4, 305, 4, 306, 4}, words(1, 1, 99), 100},
		"packets and space, rounded": {[]uint16{300, 3, 1, domain, 4, 305, 4, 306, 4}, words(1, 3, 97), 33},
		"size of a population":       {[]uint16{300, 3, 1, domain, 4, 309, 4, 310, 4}, words(1, 2, 99), 50},
		"the only selector":          {[]uint16{300, 3, 1, 302, 4, 305, 4, 306, 4}, words(9, 1, 99), 100},
		"one of two selectors":       {[]uint16{300, 3, 1, 302, 4, 305, 4, 306, 4}, words(9, 1, 99, 8, 1, 49), 0},
		"nothing of it":              {[]uint16{300, 2, 1, domain, 4, other, 4}, words(1, 100), 0},
		"division by zero":           {[]uint16{300, 3, 1, domain, 4, 305, 4, 306, 4}, words(1, 0, 99), 0},
	} {
		d := New(DefaultConfiguration())
		var got []biflow.Record
		if err := d.Decode(0, home, message(1, 0, set(3, c.option), simple(256), simpleData(256), set(300, nil, c.data...)), collect(&got)); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Sampling != c.want {
			t.Errorf("%s: %+v, want 1 in %d", name, got, c.want)
		}
	}
}

func TestStateIsKeptAcrossRestarts(t *testing.T) {
	before := New(DefaultConfiguration())
	if err := before.Decode(0, home, message(7, 0, simple(256), set(3, []uint16{300, 3, 1, 149, 4, 305, 4, 306, 4}),
		set(300, nil, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9)), nil); err != nil {
		t.Fatal(err)
	}
	text, err := before.Save()
	if err != nil {
		t.Fatal(err)
	}
	after := New(DefaultConfiguration())
	if err := after.Restore(0, text); err != nil {
		t.Fatal(err)
	}
	again, err := after.Save()
	if err != nil || string(again) != string(text) {
		t.Errorf("%s saved again as %s (%v)", text, again, err)
	}
	var got []biflow.Record
	if err := after.Decode(1, home, message(7, 0, simpleData(256)), collect(&got)); err != nil || len(got) != 1 || got[0].Sampling != 10 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"{", `{"exporters":[{}]}`, `{"exporters":[{"addr":"192.0.2.1","domains":[{"version":10,"templates":[{"id":256}]}]}]}`} {
		if after.Restore(0, []byte(bad)) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// TestWhatGivesWayIsTold: the counters of an exporter that gives way are handed
// over, with what its domains had lost.
func TestWhatGivesWayIsTold(t *testing.T) {
	d := New(Configuration{MaxExporters: 1, MaxDomains: 4, MaxTemplates: 5})
	var told Counters
	d.Forget = func(from netip.Addr, c Counters) {
		if from != home {
			t.Errorf("%s gave way", from)
		}
		told = c
	}
	for _, sequence := range []uint32{0, 10} {
		if err := d.Decode(0, home, message(1, sequence, simple(256), simpleData(256)), func(*biflow.Record) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Decode(flow.Time(2*time.Hour), netip.MustParseAddr("192.0.2.2"), message(1, 0, simple(256)), nil); err != nil {
		t.Fatal(err)
	}
	if told.Datagrams != 2 || told.Records != 2 || told.Lost != 9 {
		t.Errorf("%+v", told)
	}
}

// TestStructuredDataIsCounted: lists within a record (RFC 6313) are passed over,
// of fixed or variable length, and said to have been.
func TestStructuredDataIsCounted(t *testing.T) {
	d := New(DefaultConfiguration())
	var got []biflow.Record
	tpl := set(2, []uint16{256, 5, 8, 4, basicList, 65535, subTemplateList, 3, subTemplateMultiList, 65535, 12, 4})
	data := set(256, nil, 10, 0, 0, 1, 4, 255, 0, 1, 0, 1, 2, 3, 255, 0, 2, 9, 9, 10, 0, 0, 2)
	if err := d.Decode(0, home, message(1, 0, tpl, data), collect(&got)); err != nil || len(got) != 1 || got[0].Resp.String() != "10.0.0.2" {
		t.Fatalf("%+v, %v", got, err)
	}
	if c := d.Counters()[home]; c.Structured != 3 || c.Records != 1 || c.Malformed != 0 {
		t.Errorf("%+v", c)
	}
}
