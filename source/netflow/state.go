package netflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/flow"
	"dragnet/source/gaps"
)

// saved is what a Decoder keeps across restarts, as JSON.
type saved struct {
	Exporters []savedExporter `json:"exporters"`
}

type savedExporter struct {
	Addr     netip.Addr    `json:"addr"`
	Counters *Counters     `json:"counters,omitempty"` // without the losses of domains
	Domains  []savedDomain `json:"domains"`
}

type savedDomain struct {
	Version    version             `json:"version"`
	Domain     uint32              `json:"domain"`
	Sequence   *gaps.SavedSequence `json:"sequence,omitempty"`
	Boot       uint64              `json:"boot,omitempty"`
	Sampling   uint32              `json:"sampling,omitempty"`
	Selectors  map[uint32]uint32   `json:"selectors,omitempty"`
	Interfaces map[uint32]uint32   `json:"interfaces,omitempty"`
	Templates  []savedTemplate     `json:"templates"`
}

type savedTemplate struct {
	ID     uint16 `json:"id"`
	Option bool   `json:"option,omitempty"`
	Scopes int    `json:"scopes,omitempty"`
	// Fields are element, length and enterprise number.
	Fields [][3]uint32 `json:"fields"`
}

// Save returns the templates, sampling rates, sequence numbers and counters as
// JSON: a restarted program need not wait until exporters send their templates
// again, which may take minutes, and counts what they sent meanwhile as lost.
func (d *Decoder) Save() ([]byte, error) {
	var s saved
	for from, e := range d.exporters.All() {
		one := savedExporter{Addr: from, Counters: &e.Counters}
		for key, o := range e.domains.All() {
			at := savedDomain{Version: key.version, Domain: key.domain, Sequence: o.sequence.State(), Boot: o.boot, Sampling: o.sampling.whole,
				Selectors: o.sampling.selectors, Interfaces: o.sampling.interfaces}
			for _, t := range o.templates.All() {
				st := savedTemplate{ID: t.id, Option: t.option, Scopes: t.scopes}
				for _, f := range t.fields {
					st.Fields = append(st.Fields, [3]uint32{uint32(f.element), uint32(f.length), f.enterprise})
				}
				at.Templates = append(at.Templates, st)
			}
			slices.SortFunc(at.Templates, func(a, b savedTemplate) int { return cmp.Compare(a.ID, b.ID) })
			one.Domains = append(one.Domains, at)
		}
		slices.SortFunc(one.Domains, func(a, b savedDomain) int {
			return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Domain, b.Domain))
		})
		s.Exporters = append(s.Exporters, one)
	}
	slices.SortFunc(s.Exporters, func(a, b savedExporter) int { return a.Addr.Compare(b.Addr) })
	return json.Marshal(s)
}

// Break forgets the sequence numbers, where it is not known what was received since
// Save; see sequence.Sequence.
func (d *Decoder) Break() {
	for _, e := range d.exporters.All() {
		for _, o := range e.domains.All() {
			o.sequence.Break()
		}
	}
}

// Restore takes in what Save returned, within the bounds of the configuration.
// Exporters count as heard at now.
func (d *Decoder) Restore(now flow.Time, text []byte) error {
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read the templates of exporters: %w", err)
	}
	for _, one := range s.Exporters {
		if !one.Addr.IsValid() {
			return fmt.Errorf("read the templates of exporters: one has no address")
		}
		e, err := d.findExporter(now, one.Addr)
		if err != nil {
			if one.Counters != nil && d.Forget != nil {
				d.Forget(one.Addr, *one.Counters)
			}
			continue
		}
		for _, at := range one.Domains {
			o := d.findDomain(e, domainKey{at.Version, at.Domain})
			o.boot, o.sampling.whole = at.Boot, at.Sampling
			o.sequence.Resume(at.Sequence)
			for id, rate := range at.Selectors {
				putRate(&o.sampling.selectors, id, rate)
			}
			for id, rate := range at.Interfaces {
				putRate(&o.sampling.interfaces, id, rate)
			}
			for _, st := range at.Templates {
				t := &template{id: st.ID, option: st.Option, scopes: st.Scopes}
				for _, f := range st.Fields {
					t.fields = append(t.fields, field{element: uint16(f[0]), length: uint16(f[1]), enterprise: f[2]})
				}
				if err := t.computeLayout(at.Version); err != nil {
					return fmt.Errorf("read the templates of exporters: template %d of %s: %w", st.ID, one.Addr, err)
				}
				d.learnTemplate(e, o, t)
			}
		}
		if e.Counters = (Counters{}); one.Counters != nil {
			e.Counters = *one.Counters
		}
	}
	return nil
}
