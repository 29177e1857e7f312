// Package parquet writes flows as Apache Parquet, and as Arrow IPC files, for DuckDB,
// Spark, pandas and others. It only writes: what is stored stays in the other folders of store.
//
// A column whose value is not known is null, so that no sum counts it as zero.
package parquet

import (
	"io"

	pq "github.com/parquet-go/parquet-go"

	"dragnet/flow"
)

// row has the columns. Names are those of 'dragnet flow list'; see flow.Flow for
// what each means and for its information element.
type row struct {
	// Start is in microseconds since 1970, which all readers know.
	Start    int64  `parquet:"start_time,timestamp(microsecond),delta"`
	Duration *int64 `parquet:"duration_ns,optional"`
	Src      string `parquet:"src_addr,dict"`
	SrcPort  int32  `parquet:"src_port"`
	Dst      string `parquet:"dst_addr,dict"`
	DstPort  int32  `parquet:"dst_port"`
	Proto    int32  `parquet:"proto"`
	State    string `parquet:"conn_state,optional,dict"`
	// Packets, and bytes from the IP header on.
	OrigPkts  *int64 `parquet:"pkts_orig,optional"`
	RespPkts  *int64 `parquet:"pkts_resp,optional"`
	OrigBytes *int64 `parquet:"bytes_orig,optional"`
	RespBytes *int64 `parquet:"bytes_resp,optional"`
	// Bytes of payload.
	OrigPayload *int64 `parquet:"payload_bytes_orig,optional"`
	RespPayload *int64 `parquet:"payload_bytes_resp,optional"`
	Missed      *int64 `parquet:"missed_bytes,optional"`
	OrigFlags   *int32 `parquet:"tcp_flags_orig,optional"`
	RespFlags   *int32 `parquet:"tcp_flags_resp,optional"`
	OrigISN     *int64 `parquet:"isn_orig,optional"`
	RespISN     *int64 `parquet:"isn_resp,optional"`
	// ICMPError is type times 256 plus code.
	ICMPError *int32  `parquet:"icmp_error,optional"`
	History   *string `parquet:"history,optional,dict"`
	Sampling  *int64  `parquet:"sampling_rate,optional"`
	Domain    int64   `parquet:"observation_domain_id"`
	Exporter  string  `parquet:"exporter_addr,optional,dict"`
}

const (
	// groupRows bounds the rows that are held before they are written.
	groupRows = 1 << 17
	batchRows = 1 << 10
)

// Writer writes one file. It is not safe for concurrent use.
type Writer struct {
	out   *pq.GenericWriter[row]
	batch []row
}

// NewWriter writes to w, compressed with Zstandard.
func NewWriter(w io.Writer) *Writer {
	return &Writer{out: pq.NewGenericWriter[row](w, pq.Compression(&pq.Zstd), pq.MaxRowsPerRowGroup(groupRows), pq.CreatedBy("dragnet", "", ""))}
}

// Write adds a flow.
func (w *Writer) Write(f *flow.Flow) error {
	if w.batch = append(w.batch, rowOf(f)); len(w.batch) < batchRows {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	_, err := w.out.Write(w.batch)
	w.batch = w.batch[:0]
	return err
}

// Close writes the end of the file, without which it cannot be read.
func (w *Writer) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.out.Close()
}

func rowOf(f *flow.Flow) row {
	r := row{
		Start: int64(f.Start) / 1000, Src: f.Orig.String(), Dst: f.Resp.String(), SrcPort: int32(f.OrigPort), DstPort: int32(f.RespPort),
		Proto: int32(f.Proto), Domain: int64(f.Domain),
	}
	if f.State != flow.StateUnknown {
		r.State = f.State.String()
	}
	if f.Exporter.IsValid() {
		r.Exporter = f.Exporter.String()
	}
	r.Sampling = given(f.Sampling > 0, int64(f.Sampling))
	r.Duration = given(f.Known.Has(flow.Lasting), int64(f.Duration))
	counts, payload, flags := f.Known.Has(flow.Counts), f.Known.Has(flow.Payload), f.Known.Has(flow.Flags)
	r.OrigPkts, r.RespPkts = given(counts, int64(f.OrigPkts)), given(counts, int64(f.RespPkts))
	r.OrigBytes, r.RespBytes = given(counts, int64(f.OrigIPBytes)), given(counts, int64(f.RespIPBytes))
	r.OrigPayload, r.RespPayload = given(payload, int64(f.OrigBytes)), given(payload, int64(f.RespBytes))
	r.Missed = given(payload, int64(f.MissedBytes))
	r.OrigFlags, r.RespFlags = given(flags, int32(f.OrigFlags)), given(flags, int32(f.RespFlags))
	r.OrigISN, r.RespISN = given(f.Known.Has(flow.ISNs), int64(f.OrigISN)), given(f.Known.Has(flow.ISNs), int64(f.RespISN))
	r.ICMPError = given(f.Known.Has(flow.Failures), int32(f.ICMPError))
	r.History = given(f.Known.Has(flow.History), f.History)
	return r
}

// given is v, or null.
func given[T any](known bool, v T) *T {
	if !known {
		return nil
	}
	return &v
}
