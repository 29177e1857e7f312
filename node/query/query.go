// Package query lists stored flows in order of time, a page at a time, and counts
// them. Commands on a data directory and the node's API use the same functions,
// so they give the same answers.
package query

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/node/ingest"
	"dragnet/store"
)

// Open opens a store in its current state.
type Open func(ctx context.Context) (store.Reader, error)

// OpenPlace returns what opens the data directory, or the database, at place.
func OpenPlace(place string) Open {
	return func(ctx context.Context) (store.Reader, error) { return ingest.OpenReader(ctx, place) }
}

// Selection selects flows.
type Selection struct {
	Filter *pattern.Filter
	Window flow.Window
	// Read, if set, is called with the number of flows in each batch read, from
	// several goroutines.
	Read func(flows int)
}

// Parse makes a selection from the text of a filter; files holds the content of
// the files that the text names.
func Parse(text string, files map[string]string, w flow.Window) (Selection, error) {
	f, err := pattern.ParseFilter(text, func(name string) (io.ReadCloser, error) {
		content, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("the content of %s was not sent with the filter", name)
		}
		return io.NopCloser(strings.NewReader(content)), nil
	})
	return Selection{Filter: f, Window: w}, err
}

// scanSelected calls fn with each selected flow, one call at a time.
func (s *Selection) scanSelected(ctx context.Context, log store.Reader, w flow.Window, fn func(*flow.Flow) error) (flow.Coverage, error) {
	return log.Scan(ctx, w, flow.AllColumns, flow.SerializeCalls(func(batch []flow.Flow) error {
		if s.Read != nil {
			s.Read(len(batch))
		}
		for i := range batch {
			if s.Filter.Matches(&batch[i]) {
				if err := fn(&batch[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// Each calls fn with each selected flow, one call at a time, in the order in which
// they are read.
func Each(ctx context.Context, log store.Reader, s Selection, fn func(*ListedFlow) error) (flow.Coverage, error) {
	return s.scanSelected(ctx, log, s.Window, func(f *flow.Flow) error {
		r := RowOf(f)
		return fn(&r)
	})
}

// EachFlow is Each for flows with all stored columns; a flow is valid during the
// call.
func EachFlow(ctx context.Context, log store.Reader, s Selection, fn func(*flow.Flow) error) (flow.Coverage, error) {
	return s.scanSelected(ctx, log, s.Window, fn)
}

// ListedFlow is a flow as it is listed; see flow.Flow for what a field means. Its JSON
// form is that of 'dragnet flow list'.
type ListedFlow struct {
	Start     flow.Time  `json:"start_time"`
	End       flow.Time  `json:"end_time"`
	Src       netip.Addr `json:"src_addr"`
	SrcPort   uint16     `json:"src_port"`
	Dst       netip.Addr `json:"dst_addr"`
	DstPort   uint16     `json:"dst_port"`
	Proto     string     `json:"proto"`
	State     string     `json:"conn_state"`
	OrigBytes uint64     `json:"bytes_orig"`
	RespBytes uint64     `json:"bytes_resp"`
	OrigPkts  uint64     `json:"pkts_orig"`
	RespPkts  uint64     `json:"pkts_resp"`
	History   string     `json:"history"`
	// Sampling and Exporter are of flows that an exporter sent.
	Sampling uint32 `json:"sampling_rate,omitempty"`
	Exporter string `json:"exporter_addr,omitempty"`
}

// RowOf returns f as a row. Bytes include the IP header if the source counted it.
func RowOf(f *flow.Flow) ListedFlow {
	r := ListedFlow{
		Start: f.Start, End: f.End(), Src: f.Orig, SrcPort: f.OrigPort, Dst: f.Resp, DstPort: f.RespPort,
		Proto: f.Proto.String(), State: f.State.String(), OrigBytes: f.OrigIPBytes, RespBytes: f.RespIPBytes,
		OrigPkts: f.OrigPkts, RespPkts: f.RespPkts, History: f.History, Sampling: f.Sampling,
	}
	if f.Exporter.IsValid() {
		r.Exporter = f.Exporter.String()
	}
	if !f.Known.Has(flow.Counts) {
		r.OrigBytes, r.RespBytes = f.OrigBytes, f.RespBytes
	}
	return r
}

// Compare orders rows by time, then by every other field: rows that are equal
// cannot be distinguished.
func (r ListedFlow) Compare(o ListedFlow) int {
	if c := cmp.Or(cmp.Compare(r.Start, o.Start), r.Src.Compare(o.Src), r.Dst.Compare(o.Dst), cmp.Compare(r.SrcPort, o.SrcPort), cmp.Compare(r.DstPort, o.DstPort)); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(r.Proto, o.Proto), cmp.Compare(r.State, o.State), cmp.Compare(r.End, o.End),
		cmp.Compare(r.OrigBytes, o.OrigBytes), cmp.Compare(r.RespBytes, o.RespBytes),
		cmp.Compare(r.OrigPkts, o.OrigPkts), cmp.Compare(r.RespPkts, o.RespPkts), cmp.Compare(r.History, o.History),
		cmp.Compare(r.Sampling, o.Sampling), cmp.Compare(r.Exporter, o.Exporter),
	)
}
