// Package query looks at the flows that are kept: lists them in order of time,
// a page at a time, and sums them up. Commands on a data directory and the
// node's API use the same functions, so they give the same answers.
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

// Open opens a store as it is now.
type Open func(ctx context.Context) (store.Reader, error)

// In opens the data directory, or the database, at place.
func In(place string) Open {
	return func(ctx context.Context) (store.Reader, error) { return ingest.OpenReader(ctx, place) }
}

// Selection chooses flows.
type Selection struct {
	Filter *pattern.Filter
	Window flow.Window
	// Read, if set, is told how many flows were read, as they are, from several
	// goroutines.
	Read func(flows int)
}

// Parse makes a selection of the text of a filter; files holds the content of
// those that the text names.
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

// each shows the chosen flows to fn, one call at a time.
func (s *Selection) each(ctx context.Context, log store.Reader, w flow.Window, fn func(*flow.Flow) error) (flow.Coverage, error) {
	turn := make(chan struct{}, 1)
	return log.Scan(ctx, w, flow.AllColumns, func(batch []flow.Flow) error {
		if s.Read != nil {
			s.Read(len(batch))
		}
		turn <- struct{}{}
		defer func() { <-turn }()
		for i := range batch {
			if s.Filter.Matches(&batch[i]) {
				if err := fn(&batch[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Each shows all chosen flows to fn, one call at a time, in the order in which
// they are read.
func Each(ctx context.Context, log store.Reader, s Selection, fn func(*ListedFlow) error) (flow.Coverage, error) {
	return EachFlow(ctx, log, s, func(f *flow.Flow) error {
		r := RowOf(f)
		return fn(&r)
	})
}

// EachFlow is Each for flows with all that is stored of them; one is valid during
// the call.
func EachFlow(ctx context.Context, log store.Reader, s Selection, fn func(*flow.Flow) error) (flow.Coverage, error) {
	return s.each(ctx, log, s.Window, fn)
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
}

// RowOf takes the bytes from the IP header on, where the source counted them.
func RowOf(f *flow.Flow) ListedFlow {
	r := ListedFlow{
		Start: f.Start, End: f.End(), Src: f.Orig, SrcPort: f.OrigPort, Dst: f.Resp, DstPort: f.RespPort,
		Proto: f.Proto.String(), State: f.State.String(), OrigBytes: f.OrigIPBytes, RespBytes: f.RespIPBytes,
		OrigPkts: f.OrigPkts, RespPkts: f.RespPkts, History: f.History,
	}
	if !f.Known.Has(flow.Counts) {
		r.OrigBytes, r.RespBytes = f.OrigBytes, f.RespBytes
	}
	return r
}

// Compare orders by time, and then by everything that is shown: equal rows
// cannot be told apart.
func (r ListedFlow) Compare(o ListedFlow) int {
	if c := cmp.Or(cmp.Compare(r.Start, o.Start), r.Src.Compare(o.Src), r.Dst.Compare(o.Dst), cmp.Compare(r.SrcPort, o.SrcPort), cmp.Compare(r.DstPort, o.DstPort)); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(r.Proto, o.Proto), cmp.Compare(r.State, o.State), cmp.Compare(r.End, o.End),
		cmp.Compare(r.OrigBytes, o.OrigBytes), cmp.Compare(r.RespBytes, o.RespBytes),
		cmp.Compare(r.OrigPkts, o.OrigPkts), cmp.Compare(r.RespPkts, o.RespPkts), cmp.Compare(r.History, o.History),
	)
}
