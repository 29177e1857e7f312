package query

import (
	"fmt"
	"net/netip"

	"dragnet/flow"
	"dragnet/wire"
	nodev1 "dragnet/wire/node/v1"
)

// Message returns the row as a protobuf message.
func (r *ListedFlow) Message() *nodev1.Flow {
	return &nodev1.Flow{
		Start: wire.Timestamp(r.Start), End: wire.Timestamp(r.End), Src: r.Src.String(), SrcPort: uint32(r.SrcPort), Dst: r.Dst.String(), DstPort: uint32(r.DstPort),
		Proto: r.Proto, State: r.State, BytesOrig: r.OrigBytes, BytesResp: r.RespBytes, PktsOrig: r.OrigPkts, PktsResp: r.RespPkts, History: r.History,
		SamplingRate: r.Sampling, ExporterAddr: r.Exporter,
	}
}

// RowFrom reads what ListedFlow.Message wrote.
func RowFrom(m *nodev1.Flow) (r ListedFlow, err error) {
	if r.Src, err = netip.ParseAddr(m.GetSrc()); err != nil {
		return r, fmt.Errorf("flow: %w", err)
	}
	if r.Dst, err = netip.ParseAddr(m.Dst); err != nil {
		return r, fmt.Errorf("flow: %w", err)
	}
	if m.SrcPort > 1<<16-1 || m.DstPort > 1<<16-1 {
		return r, fmt.Errorf("flow: port %d or %d is above 65535", m.SrcPort, m.DstPort)
	}
	if r.Start, err = wire.FlowTime(m.Start); err != nil {
		return r, err
	}
	if r.End, err = wire.FlowTime(m.End); err != nil {
		return r, err
	}
	r.SrcPort, r.DstPort, r.Proto, r.State = uint16(m.SrcPort), uint16(m.DstPort), m.Proto, m.State
	r.OrigBytes, r.RespBytes, r.OrigPkts, r.RespPkts, r.History = m.BytesOrig, m.BytesResp, m.PktsOrig, m.PktsResp, m.History
	r.Sampling, r.Exporter = m.SamplingRate, m.ExporterAddr
	return r, nil
}

// Message returns the tally as a protobuf message.
func (t *GroupCount) Message() *nodev1.Tally {
	return &nodev1.Tally{
		Group: t.Group, Flows: t.Flows, Established: t.Established, Failed: t.Failed, Bytes: t.Bytes, First: wire.Timestamp(t.First), Last: wire.Timestamp(t.Last),
	}
}

// TallyFrom reads what GroupCount.Message wrote.
func TallyFrom(m *nodev1.Tally) (t GroupCount, err error) {
	t = GroupCount{Group: m.GetGroup(), Flows: m.GetFlows(), Established: m.GetEstablished(), Failed: m.GetFailed(), Bytes: m.GetBytes()}
	if t.First, err = wire.FlowTime(m.First); err == nil {
		t.Last, err = wire.FlowTime(m.Last)
	}
	return t, err
}

// WindowMessage writes a window into a selection.
func WindowMessage(w flow.Window, m *nodev1.Selection) {
	if w.From != flow.MinTime {
		m.From = wire.Timestamp(w.From)
	}
	if w.To != 0 {
		m.To = wire.Timestamp(w.To)
	}
}

// readSelection reads a selection.
func readSelection(m *nodev1.Selection) (Selection, error) {
	w := flow.AllTime
	var err error
	if m.GetFrom() != nil {
		if w.From, err = wire.FlowTime(m.From); err != nil {
			return Selection{}, err
		}
	}
	if m.GetTo() != nil {
		if w.To, err = wire.FlowTime(m.To); err != nil {
			return Selection{}, err
		}
		if w.To == 0 { // 0 would mean no end
			w.To = -1
		}
	}
	return Parse(m.GetFilter(), m.GetFiles(), w)
}
