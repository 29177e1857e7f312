package collect

import (
	"maps"
	"net/netip"

	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Counters tell what exporters sent, and how far they are to be relied on.
type Counters struct {
	NetFlow netflow.Counters
	SFlow   sflow.Counters
	Quality biflow.Quality
}

// Lost is how many sequence numbers are missing, sets had no template, and
// samples the exporter dropped itself.
func (c *Counters) Lost() uint64 {
	return c.NetFlow.Lost + c.NetFlow.UnknownTemplate + c.SFlow.Lost + c.SFlow.Dropped
}

func (c *Counters) add(o *Counters) {
	c.NetFlow.Add(o.NetFlow)
	c.SFlow.Add(o.SFlow)
	c.Quality.Add(&o.Quality)
}

// Exporter is one address that sends.
type Exporter struct {
	Addr netip.Addr
	// Prefix is the configured one that has it.
	Prefix netip.Prefix
	Counters
}

// ExporterCounts is what was received of the exporters of one configured prefix; of
// prefixes within each other, the longest has it.
type ExporterCounts struct {
	Prefix netip.Prefix
	// Exporters is how many addresses of it are known now.
	Exporters int
	Counters
}

// nameCounts prepares the counts by configured prefix.
func (c *Collector) nameCounts() {
	c.gone = make([]Counters, len(c.config.Exporters))
	for i, p := range c.config.Exporters {
		c.named.Insert(p, i)
	}
	of := func(from netip.Addr) int { i, _ := c.named.Lookup(from); return i }
	c.netflow.Divide(c.config.Exporters, of)
	c.sflow.Divide(c.config.Exporters, of)
	c.join.Divide(c.config.Exporters, of)
	keep := func(from netip.Addr, n Counters) {
		if i, ok := c.named.Lookup(from); ok {
			c.gone[i].add(&n)
		}
	}
	c.netflow.Forget = func(from netip.Addr, n netflow.Counters) { keep(from, Counters{NetFlow: n}) }
	c.sflow.Forget = func(from netip.Addr, n sflow.Counters) { keep(from, Counters{SFlow: n}) }
	c.join.Forget = func(from netip.Addr, q *biflow.Quality) { keep(from, Counters{Quality: *q}) }
}

// Exporters are those known now, in no order.
func (c *Collector) Exporters() (all []Exporter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, e := range c.listExporters() {
		if i, ok := c.named.Lookup(a); ok {
			e.Prefix = c.config.Exporters[i]
		}
		all = append(all, *e)
	}
	return all
}

// listExporters is Exporters, called where c.mu is held.
func (c *Collector) listExporters() map[netip.Addr]*Exporter {
	by := map[netip.Addr]*Exporter{}
	of := func(a netip.Addr) *Exporter {
		if by[a] == nil {
			by[a] = &Exporter{Addr: a}
		}
		return by[a]
	}
	for a, n := range c.netflow.Counters() {
		of(a).NetFlow = n
	}
	for a, n := range c.sflow.Counters() {
		of(a).SFlow = n
	}
	for a, q := range c.join.Qualities() {
		of(a).Quality = q
	}
	return by
}

// Sources are the configured prefixes in their order. Their counts only grow,
// whatever exporters come and go.
func (c *Collector) Sources() []ExporterCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]ExporterCounts, len(c.gone))
	for i, p := range c.config.Exporters {
		all[i] = ExporterCounts{Prefix: p, Counters: c.gone[i]}
	}
	for a, e := range c.listExporters() {
		if i, ok := c.named.Lookup(a); ok {
			all[i].Exporters++
			all[i].add(&e.Counters)
		}
	}
	return all
}

// Causes are the counts of what was lost or is missing, by cause, without zeros.
func (c *Counters) Causes() map[string]uint64 {
	n, s, q := &c.NetFlow, &c.SFlow, &c.Quality
	return dropZeros(map[string]uint64{
		"missing_in_sequence": n.Lost + s.Lost, "sets_without_template": n.UnknownTemplate, "samples_dropped_by_exporter": s.Dropped,
		"datagrams_malformed": n.Malformed + s.Malformed, "templates_forgotten": n.Forgotten, "lists_passed_over": n.Structured,
		"records_with_wrong_clock": q.ClockOff, "flows_one_sided": q.OneSided, "flows_reported_early": q.Early,
	})
}

// Causes are the counts of what was lost before it was known whose it is.
func (t *Totals) Causes() map[string]uint64 {
	return dropZeros(map[string]uint64{
		"datagrams_overflowed": t.Overflowed, "datagrams_foreign": t.Foreign, "datagrams_unknown": t.Unknown, "datagrams_refused": t.Refused, "flows_dropped": t.Dropped, "times_killed": t.Killed,
	})
}

func dropZeros(m map[string]uint64) map[string]uint64 {
	maps.DeleteFunc(m, func(_ string, n uint64) bool { return n == 0 })
	return m
}
