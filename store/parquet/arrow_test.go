package parquet

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"dragnet/flow"
)

// TestArrowHoldsWhatParquetHolds writes the same flows both ways, and compares every
// column as Apache Arrow's readers give it.
func TestArrowHoldsWhatParquetHolds(t *testing.T) {
	var feather, pq bytes.Buffer
	a, err := NewArrowWriter(&feather)
	if err != nil {
		t.Fatal(err)
	}
	p := NewWriter(&pq)
	const rows = 2000
	for i := range rows {
		f := flow.Flow{
			Start: flow.Time(i) * flow.Time(time.Second), Orig: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Resp: netip.MustParseAddr("2001:db8::7"),
			OrigPort: uint16(i), RespPort: 443, Proto: flow.TCP, Duration: time.Duration(i), OrigPkts: uint64(i), History: "ShADadFf",
		}
		if i%2 == 0 {
			f.State, f.Known, f.Exporter, f.Sampling = flow.SF, flow.AllColumns, netip.MustParseAddr("198.51.100.1"), 100
		}
		for _, w := range []interface{ Write(*flow.Flow) error }{a, p} {
			if err := w.Write(&f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range []interface{ Close() error }{a, p} {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := ipc.NewFileReader(bytes.NewReader(feather.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var chunks []arrow.RecordBatch
	for i := range r.NumRecords() {
		batch, err := r.RecordBatchAt(i)
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, batch)
	}
	table := array.NewTableFromRecords(r.Schema(), chunks)
	_, want, n := readBack(t, pq.Bytes())
	if table.NumRows() != rows || n != rows || int(table.NumCols()) != len(want) {
		t.Fatalf("%d rows and %d columns; Parquet has %d and %d", table.NumRows(), table.NumCols(), n, len(want))
	}
	for i := range int(table.NumCols()) {
		c := table.Column(i)
		one, err := array.Concatenate(c.Data().Chunks(), memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		for at := range rows {
			if got, w := one.ValueStr(at), want[c.Name()].ValueStr(at); got != w {
				t.Fatalf("%s of row %d: %s, in Parquet %s", c.Name(), at, got, w)
			}
		}
	}
}
