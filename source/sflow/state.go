package sflow

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"dragnet/flow"
	"dragnet/source/gaps"
)

// savedExporter is what a Decoder keeps of one across restarts, as JSON.
type savedExporter struct {
	Addr     netip.Addr                     `json:"addr"`
	Counters Counters                       `json:"counters"` // without the losses of sub-agents
	Agents   map[uint32]*gaps.SavedSequence `json:"agents"`
	Drops    map[uint64]uint32              `json:"drops"`
}

// Save returns sequence numbers and counters as JSON, so that a restarted program
// counts as lost what exporters sent meanwhile.
func (d *Decoder) Save() ([]byte, error) {
	all := []savedExporter{}
	for from, e := range d.exporters.All() {
		one := savedExporter{Addr: from, Counters: e.Counters, Agents: map[uint32]*gaps.SavedSequence{}, Drops: e.drops}
		for agent, s := range e.agents {
			one.Agents[agent] = s.State()
		}
		all = append(all, one)
	}
	return json.Marshal(all)
}

// Break forgets the sequence numbers, where it is not known what was received since
// Save; see sequence.Sequence.
func (d *Decoder) Break() {
	for _, e := range d.exporters.All() {
		for _, s := range e.agents {
			s.Break()
		}
	}
}

// Restore takes in what Save returned, within the bounds of the configuration.
// Exporters count as heard at now.
func (d *Decoder) Restore(now flow.Time, text []byte) error {
	var all []savedExporter
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read the counts of exporters: %w", err)
	}
	for _, one := range all {
		if !one.Addr.IsValid() {
			return fmt.Errorf("read the counts of exporters: one has no address")
		}
		e := d.exporters.Find(now, one.Addr)
		if e == nil {
			if d.Forget != nil {
				d.Forget(one.Addr, one.Counters)
			}
			continue
		}
		e.Counters = one.Counters
		for agent, state := range one.Agents {
			if s := new(gaps.Sequence); len(e.agents) < d.config.MaxSources {
				s.Resume(state)
				e.agents[agent] = s
			}
		}
		for source, count := range one.Drops {
			if len(e.drops) < d.config.MaxSources {
				e.drops[source] = count
			}
		}
	}
	return nil
}
