package netflow

import (
	"net/netip"

	"dragnet/flow"
	"dragnet/internal/lru"
	"dragnet/source/gaps"
)

// exporter is what is known of one address that sends.
type exporter struct {
	Counters
	domains *lru.Map[domainKey, *domain]
}

// domainKey distinguishes the observation domains of an exporter. Engines take
// the place of domains in version 5.
type domainKey struct {
	version version
	domain  uint32
}

// domain is one observation domain.
type domain struct {
	key       domainKey
	templates *lru.Map[uint16, *template]
	sequence  gaps.Sequence
	sampling  rates
	// boot is the exporter's start in milliseconds since 1970, from
	// systemInitTimeMilliseconds [160] in an option; 0 when unknown.
	boot uint64
}

// findExporter finds or makes the state of an address.
func (d *Decoder) findExporter(now flow.Time, from netip.Addr) (*exporter, error) {
	e := d.exporters.Find(now, from)
	if e == nil {
		return nil, ErrBound
	}
	return e, nil
}

// findDomain finds or makes the state of an observation domain.
func (d *Decoder) findDomain(e *exporter, key domainKey) *domain {
	o, ok := e.domains.Use(key)
	if !ok {
		if e.domains.Len() >= d.config.MaxDomains {
			e.forgetDomain()
		}
		o = &domain{key: key, templates: lru.New[uint16, *template]()}
		e.domains.Put(key, o)
	}
	return o
}

// forgetDomain drops the domain longest silent, but not what it had lost.
func (e *exporter) forgetDomain() {
	key, oldest, _ := e.domains.Oldest()
	e.Forgotten += uint64(oldest.templates.Len())
	e.Lost += oldest.sequence.Lost()
	e.Restarts += oldest.sequence.Restarts
	e.domains.Delete(key)
}

// learnTemplate keeps a template.
func (d *Decoder) learnTemplate(e *exporter, o *domain, t *template) {
	e.Templates++
	old, known := o.templates.Use(t.id)
	switch {
	case known && old.describesSame(t):
		return
	case known:
		e.Replaced++
	case o.templates.Len() >= d.config.MaxTemplates:
		e.Forgotten++
		id, _, _ := o.templates.Oldest()
		o.templates.Delete(id)
	}
	o.templates.Put(t.id, t)
}

// sumCounters returns the counters of the exporter with all its domains.
func (e *exporter) sumCounters() Counters {
	c := e.Counters
	for _, o := range e.domains.All() {
		c.Lost += o.sequence.Lost()
		c.Restarts += o.sequence.Restarts
	}
	return c
}
