package netflow

import (
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/source/sequence"
)

// exporter is what is known of one address that sends.
type exporter struct {
	Counters
	domains map[domainKey]*domain
	heard   flow.Time
}

// domainKey tells the observation domains of an exporter apart. Engines take
// the place of domains in version 5.
type domainKey struct {
	version version
	domain  uint32
}

// domain is one observation domain.
type domain struct {
	key       domainKey
	templates map[uint16]*template
	heard     flow.Time
	sequence  sequence.Sequence
	sampling  rates
	// boot is the exporter's start in milliseconds since 1970, from
	// systemInitTimeMilliseconds [160] in an option; 0 when unknown.
	boot uint64
}

// silence is how long an exporter may say nothing before it may be forgotten
// for another.
const silence = flow.Time(time.Hour)

// exporter finds or makes the state of an address.
func (d *Decoder) exporter(now flow.Time, from netip.Addr) (*exporter, error) {
	e := d.exporters[from]
	if e == nil {
		if len(d.exporters) >= d.config.MaxExporters && !d.forgetExporter(now) {
			return nil, ErrBound
		}
		e = &exporter{domains: map[domainKey]*domain{}}
		d.exporters[from] = e
	}
	e.heard = now
	return e, nil
}

// forgetExporter drops an exporter that has been silent.
func (d *Decoder) forgetExporter(now flow.Time) bool {
	for from, e := range d.exporters {
		if now-e.heard > silence {
			delete(d.exporters, from)
			return true
		}
	}
	return false
}

// domain finds or makes the state of an observation domain.
func (d *Decoder) domain(e *exporter, now flow.Time, key domainKey) *domain {
	o := e.domains[key]
	if o == nil {
		if len(e.domains) >= d.config.MaxDomains {
			e.forgetDomain()
		}
		o = &domain{key: key, templates: map[uint16]*template{}}
		e.domains[key] = o
	}
	o.heard = now
	return o
}

// forgetDomain drops the domain longest silent, but not what it had lost.
func (e *exporter) forgetDomain() {
	var oldest *domain
	for _, o := range e.domains {
		if oldest == nil || o.heard < oldest.heard {
			oldest = o
		}
	}
	e.Forgotten += uint64(len(oldest.templates))
	e.Lost += oldest.sequence.Lost()
	e.Restarts += oldest.sequence.Restarts
	delete(e.domains, oldest.key)
}

// learn keeps a template.
func (d *Decoder) learn(e *exporter, o *domain, t *template) {
	e.Templates++
	old := o.templates[t.id]
	switch {
	case old != nil && old.same(t):
		return
	case old != nil:
		e.Replaced++
	case len(o.templates) >= d.config.MaxTemplates:
		e.Forgotten++
		o.forgetTemplate()
	}
	o.templates[t.id] = t
}

// forgetTemplate drops the template longest unused.
func (o *domain) forgetTemplate() {
	var oldest *template
	for _, t := range o.templates {
		if oldest == nil || t.used < oldest.used {
			oldest = t
		}
	}
	delete(o.templates, oldest.id)
}
