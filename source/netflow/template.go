package netflow

import (
	"encoding/binary"
	"slices"
)

// template says how the records of a set are made up (RFC 7011, section 3.4;
// RFC 3954, section 5.2).
type template struct {
	id     uint16
	option bool
	scopes int // of an options template: how many of the fields, from the first
	fields []field
	// size is the length of a record in bytes, or the least one if variable.
	size     int
	variable bool
}

// field is one information element of a template.
type field struct {
	element uint16
	length  uint16 // in bytes; variableLength for one that precedes its value
	// enterprise is the private enterprise number that defines element; 0 for
	// IANA.
	enterprise uint32
	use        use
}

// variableLength marks a field whose length precedes its value (RFC 7011,
// section 7).
const variableLength = 65535

// maxFields bounds a template. Real ones have fewer than 100.
const maxFields = 512

// describesSame reports whether two templates describe the same records.
func (t *template) describesSame(o *template) bool {
	return t.option == o.option && t.scopes == o.scopes && slices.Equal(t.fields, o.fields)
}

// computeLayout computes what follows from the fields.
func (t *template) computeLayout(v version) error {
	if len(t.fields) > maxFields {
		return ErrTemplate
	}
	t.size, t.variable = 0, false
	for i := range t.fields {
		f := &t.fields[i]
		if f.length == variableLength { // H3C uses it in version 9, too
			t.size++
			t.variable = true
		} else {
			t.size += int(f.length)
		}
		f.use = useOf(f, v, i < t.scopes)
	}
	t.preferDeltas()
	if t.size == 0 {
		return ErrTemplate
	}
	return nil
}

// Elements that count from the exporter's start.
const (
	octetTotal  = 85
	packetTotal = 86
)

// preferDeltas ignores totals beside deltas: what a record adds is the delta, and
// those totals of Open vSwitch are not of the flow but of all flows.
func (t *template) preferDeltas() {
	total := func(f *field) bool {
		return f.enterprise != certEnterprise && (f.element == octetTotal || f.element == packetTotal)
	}
	deltas := map[use]bool{}
	for i := range t.fields {
		if f := &t.fields[i]; !total(f) {
			deltas[f.use] = true
		}
	}
	for i := range t.fields {
		if f := &t.fields[i]; total(f) && deltas[f.use] {
			f.use = ignored
		}
	}
}

// takeFields reads count field specifiers; in IPFIX the first bit of the
// element says that an enterprise number follows.
func takeFields(b []byte, count int, v version) (fields []field, rest []byte, err error) {
	if count > maxFields {
		return nil, nil, ErrTemplate
	}
	if len(b) < 4*count {
		return nil, nil, ErrTruncated
	}
	fields = make([]field, count)
	for i := range fields {
		if len(b) < 4 {
			return nil, nil, ErrTruncated
		}
		f := &fields[i]
		f.element, f.length = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		b = b[4:]
		if v == ipfix && f.element&0x8000 != 0 {
			if len(b) < 4 {
				return nil, nil, ErrTruncated
			}
			f.element &= 0x7fff
			f.enterprise = binary.BigEndian.Uint32(b)
			b = b[4:]
		}
	}
	return fields, b, nil
}

// firstTemplate is the least number a template can have; those below are of
// sets that describe others.
const firstTemplate = 256

// takeTemplates reads a set of templates.
func (d *Decoder) takeTemplates(e *exporter, o *domain, b []byte) error {
	for len(b) >= 4 {
		t := &template{id: binary.BigEndian.Uint16(b)}
		count := int(binary.BigEndian.Uint16(b[2:]))
		if t.id == 0 && count == 0 { // padding
			return nil
		}
		b = b[4:]
		if count == 0 && o.key.version == ipfix {
			o.withdrawTemplates(t.id, false)
			continue
		}
		var err error
		if t.fields, b, err = takeFields(b, count, o.key.version); err != nil {
			return err
		}
		if t.id < firstTemplate {
			return ErrTemplate
		}
		if err := t.computeLayout(o.key.version); err != nil {
			return err
		}
		d.learnTemplate(e, o, t)
	}
	return nil
}

// takeOptionsTemplates reads a set of options templates. Version 9 gives the
// lengths of scopes and options in bytes, IPFIX the counts of all fields and of
// scopes.
func (d *Decoder) takeOptionsTemplates(e *exporter, o *domain, b []byte) error {
	for len(b) >= 6 || len(b) >= 4 && o.key.version == ipfix {
		t := &template{id: binary.BigEndian.Uint16(b), option: true}
		count := int(binary.BigEndian.Uint16(b[2:]))
		if t.id == 0 && count == 0 {
			return nil
		}
		if count == 0 && o.key.version == ipfix {
			o.withdrawTemplates(t.id, true)
			b = b[4:]
			continue
		}
		if len(b) < 6 {
			return ErrTruncated
		}
		t.scopes = int(binary.BigEndian.Uint16(b[4:]))
		if o.key.version == netflow9 {
			scopes, options := count, t.scopes
			if scopes%4 != 0 || options%4 != 0 {
				return ErrTemplate
			}
			count, t.scopes = (scopes+options)/4, scopes/4
		}
		if t.id < firstTemplate || t.scopes > count {
			return ErrTemplate
		}
		var err error
		if t.fields, b, err = takeFields(b[6:], count, o.key.version); err != nil {
			return err
		}
		if err := t.computeLayout(o.key.version); err != nil {
			return err
		}
		d.learnTemplate(e, o, t)
	}
	return nil
}

// withdrawTemplates forgets a template, or all of a kind (RFC 7011, section 8.1).
func (o *domain) withdrawTemplates(id uint16, options bool) {
	const allTemplates, allOptions = 2, 3
	if id != allTemplates && id != allOptions {
		o.templates.Delete(id)
		return
	}
	for n, t := range o.templates.All() {
		if t.option == options {
			o.templates.Delete(n)
		}
	}
}
