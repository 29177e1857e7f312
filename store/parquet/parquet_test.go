package parquet

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"dragnet/flow"
)

// readBack reads a file with Apache Arrow's reader, which is not the writer.
func readBack(t *testing.T, b []byte) (schema *arrow.Schema, columns map[string]arrow.Array, rows int64) {
	t.Helper()
	table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(b), parquet.NewReaderProperties(memory.DefaultAllocator), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	columns = map[string]arrow.Array{}
	for i := range int(table.NumCols()) {
		c := table.Column(i)
		one, err := array.Concatenate(c.Data().Chunks(), memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		columns[c.Name()] = one
	}
	return table.Schema(), columns, table.NumRows()
}

func TestAnotherReaderReadsTheSame(t *testing.T) {
	whole := flow.Flow{
		Start: 1795600000_123456789, Duration: 90 * time.Second, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("2001:db8::7"),
		OrigPort: 65535, RespPort: 443, Proto: flow.TCP, State: flow.SF, OrigFlags: flow.SYN | flow.ACK, RespFlags: flow.SYN, ICMPError: 3<<8 | 1, Known: flow.AllColumns,
		Sampling: 1000, Domain: 1<<32 - 1, OrigISN: 1<<32 - 1, RespISN: 7, History: "ShADadFf", OrigBytes: 1 << 40, RespBytes: 5, OrigPkts: 9, RespPkts: 8,
		OrigIPBytes: 1<<40 + 360, RespIPBytes: 400, MissedBytes: 3, Exporter: netip.MustParseAddr("198.51.100.1"),
	}
	bare := flow.Flow{Start: -1_000_000, Orig: netip.MustParseAddr("192.0.2.2"), Resp: netip.MustParseAddr("192.0.2.3"), Proto: 47}
	var b bytes.Buffer
	w := NewWriter(&b)
	const rows = groupRows + 3 // more than a group
	for i := range rows {
		f := bare
		if i%2 == 0 {
			f = whole
			f.OrigPkts = uint64(i)
		}
		if err := w.Write(&f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	schema, got, n := readBack(t, b.Bytes())
	if n != rows {
		t.Fatalf("%d rows, want %d", n, rows)
	}
	if at := schema.FieldIndices("start_time"); len(at) != 1 || schema.Field(at[0]).Type.String() != "timestamp[us, tz=UTC]" {
		t.Errorf("start_time is %v", schema)
	}
	for name, want := range map[string][2]string{ // of the whole flow, of the bare one
		"start_time": {"2026-11-25T09:46:40.123456Z", "1969-12-31T23:59:59.999Z"}, "duration_ns": {"90000000000", "(null)"},
		"src_addr": {"192.0.2.1", "192.0.2.2"}, "dst_addr": {"2001:db8::7", "192.0.2.3"}, "src_port": {"65535", "0"}, "dst_port": {"443", "0"}, "proto": {"6", "47"},
		"conn_state": {"SF", "(null)"}, "pkts_orig": {"131072", "(null)"}, "pkts_resp": {"8", "(null)"}, "bytes_orig": {"1099511628136", "(null)"}, "bytes_resp": {"400", "(null)"},
		"payload_bytes_orig": {"1099511627776", "(null)"}, "payload_bytes_resp": {"5", "(null)"}, "missed_bytes": {"3", "(null)"},
		"tcp_flags_orig": {"18", "(null)"}, "tcp_flags_resp": {"2", "(null)"}, "isn_orig": {"4294967295", "(null)"}, "isn_resp": {"7", "(null)"},
		"icmp_error": {"769", "(null)"}, "history": {"ShADadFf", "(null)"}, "sampling_rate": {"1000", "(null)"}, "observation_domain_id": {"4294967295", "0"},
		"exporter_addr": {"198.51.100.1", "(null)"},
	} {
		c := got[name]
		if c == nil {
			t.Errorf("there is no column %s", name)
			continue
		}
		for i, w := range want {
			if s := c.ValueStr(groupRows + i); s != w {
				t.Errorf("%s of row %d is %s, want %s", name, groupRows+i, s, w)
			}
		}
	}
	if len(got) != 24 {
		t.Errorf("%d columns; which are not compared?", len(got))
	}
}

func TestNoFlows(t *testing.T) {
	var b bytes.Buffer
	if err := NewWriter(&b).Close(); err != nil {
		t.Fatal(err)
	}
	if schema, _, n := readBack(t, b.Bytes()); n != 0 || schema.NumFields() != 24 {
		t.Errorf("%d rows, %v", n, schema)
	}
}
