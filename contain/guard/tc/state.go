//go:build linux

package tc

import (
	"errors"

	"dragnet/daw"
)

// writeTables writes all tables, before packets pass.
func (p *Programs) writeTables(t *daw.Tables) error {
	o, m := &p.objects, p.memory
	err := errors.Join(writeAt(m[o.Edges], 0, []daw.TableState{t.State}), writeAt(m[o.Lines], 0, t.Lines))
	for i := range t.Records {
		at := uint32(i) * t.Limits.Records
		err = errors.Join(err, writeAt(m[o.Records], at, t.Records[i]), writeAt(m[o.Histories], at, t.Histories[i]),
			writeAt(m[o.Entries], uint32(i)*t.Limits.Entries, t.Entries[i]))
	}
	for i := range t.Keys {
		at := t.Limits.Tables[len(t.Records)+i].Keys
		err = errors.Join(err, writeAt(m[o.Keys], at, t.Keys[i]), writeAt(m[o.Services], at, t.Ports[i]))
	}
	for i := range t.Cells {
		err = errors.Join(err, writeAt(m[o.Cells], t.Limits.Tables[i].Cells, t.Cells[i]))
	}
	return err
}

func (p *Programs) writeLimits() error {
	return writeAt(p.memory[p.objects.Settings], 0, []daw.Limits{p.limits})
}

// ReadTables reads what reports and snapshots need. Packets go on meanwhile: a counter
// may be of a moment earlier than another.
func (p *Programs) ReadTables() (*daw.Tables, error) {
	o, m := &p.objects, p.memory
	t := &daw.Tables{Limits: p.limits}
	var err error
	if t.State, err = readStruct[daw.TableState](m[o.Edges]); err != nil {
		return nil, err
	}
	for i := range t.Records {
		at, n := uint32(i)*t.Limits.Records, min(t.State.Used[i], t.Limits.Records)
		t.Grow(i, int(n), int(t.Limits.Entries))
		err = errors.Join(err, readAt(m[o.Records], at, t.Records[i]), readAt(m[o.Histories], at, t.Histories[i]),
			readAt(m[o.Entries], uint32(i)*t.Limits.Entries, t.Entries[i]))
	}
	for i := range t.Keys {
		x := &t.Limits.Tables[len(t.Records)+i]
		t.GrowList(i, int(x.Size))
		err = errors.Join(err, readAt(m[o.Keys], x.Keys, t.Keys[i]))
		if i > 0 {
			err = errors.Join(err, readAt(m[o.Services], x.Keys, t.Ports[i]))
		}
	}
	return t, err
}
