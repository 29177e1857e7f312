package disk

import (
	"context"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Lookup hands to fn the flows in w whose key is among the clue's. Where the
// clue is a standard question under the salts of a segment's run, it reads only
// the blocks that the run names; elsewhere it hashes the columns of all. ok is
// always true.
func (s *Store) Lookup(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error) {
	keyer, err := key.NewKeyer(c.Mask, c.End, h, c.Salt)
	if err != nil {
		return flow.Coverage{}, false, err
	}
	l := &lookup{ctx: ctx, clue: c, hash: h, keyer: keyer, window: w, fn: fn, wanted: map[key.K]bool{}, salted: map[string]bool{}}
	for _, k := range c.Keys {
		l.wanted[k.K] = true
	}
	for _, g := range s.now().Segments {
		if _, seen := l.salted[g.Epoch]; !seen && g.Epoch != "" {
			l.salted[g.Epoch] = key.OneShotSalt(c.Mask, g.Epoch) == c.Salt
		}
	}
	cov, err = s.each(ctx, w, l.visit)
	return cov, true, err
}

// maxIndexed is the number of keys of one clue up to which runs are used;
// beyond, nearly every block holds one of them.
const maxIndexed = 1024

// lookup is what the goroutines of one Lookup share; nothing of it changes.
type lookup struct {
	ctx    context.Context
	clue   *dossier.AskedClue
	hash   key.Hash
	keyer  *key.Keyer
	window flow.Window
	fn     func([]flow.Flow) error
	wanted map[key.K]bool
	// salted tells for each epoch whether the clue's salt is of it.
	salted map[string]bool
}

func (l *lookup) visit(v *visitor) error {
	blocks, indexed := l.blocks(v.segment)
	for i, b := range v.footer.blocks {
		if indexed && !blocks[i] || !overlaps(l.window, b.first, b.last) {
			continue
		}
		if err := l.block(v, i); err != nil {
			return err
		}
		if l.ctx.Err() != nil {
			return stop{l.ctx.Err()}
		}
	}
	return nil
}

// blocks asks the segment's run. A run that cannot be read costs only time.
func (l *lookup) blocks(g *segment) (blocks [segmentRows / blockRows]bool, ok bool) {
	if l.clue.Standard == 0 || l.hash.Kind != key.Linear || len(l.clue.Keys) > maxIndexed || !l.salted[g.Epoch] || g.loadRun() != nil {
		return blocks, false
	}
	for _, k := range l.clue.Keys {
		if ok, err := g.run.find(g.runFile, l.clue.Standard, k.K, int(l.hash.Bits), &blocks); err != nil || !ok {
			return blocks, false
		}
	}
	return blocks, true
}

// block finds the matching rows of a block by the columns of the mask alone,
// and unpacks the others only if there are any.
func (l *lookup) block(v *visitor, i int) error {
	if err := v.begin(i); err != nil {
		return err
	}
	var err error
	if l.clue.Mask.Family == key.IPv4 && (len(l.clue.Keys) == 1 || l.hash.Kind == key.Linear) {
		err = l.matchColumns(v)
	} else {
		err = l.matchRows(v, i)
	}
	if err != nil || len(v.hits) == 0 {
		return err
	}
	if v.rows.start == nil {
		// The sum of the key part was checked; only more of it is unpacked.
		if err := v.keys(allKeys); err != nil {
			return err
		}
		if err := v.common(i); err != nil {
			return err
		}
	}
	v.batch = v.batch[:0]
	for _, row := range v.hits {
		if l.window.Contains(flow.Time(v.rows.start[row])) {
			v.batch = append(v.batch, flow.Flow{})
			v.rows.flow(int(row), &v.batch[len(v.batch)-1])
		}
	}
	if len(v.batch) == 0 {
		return nil
	}
	if err := l.fn(v.batch); err != nil {
		return stop{err}
	}
	return nil
}

// matchColumns fills v.hits by hashing whole columns of IPv4 addresses.
func (l *lookup) matchColumns(v *visitor) error {
	low, is6 := otherEnd(l.clue.End)
	m := l.clue.Mask
	want := keySetOf(keyFamilies, keyOrigLow+low-origLow)
	if m.SPort {
		want |= keySetOf(keyOrigPort)
	}
	if m.DPort {
		want |= keySetOf(keyRespPort)
	}
	if m.Proto {
		want |= keySetOf(keyProto)
	}
	if err := v.keys(want); err != nil {
		return err
	}
	t := v.rows
	c := key.Columns{Addr4: t.u32[low], SPort: t.u16[origPort], DPort: t.u16[respPort], Proto: t.u8[proto]}
	v.hits = v.hits[:0]
	if len(l.clue.Keys) == 1 {
		v.hits = l.keyer.AppendMatches(v.hits, c, l.clue.Keys[0].K)
	} else {
		v.hashed = l.keyer.AppendKeys(v.hashed[:0], c)
		for row, k := range v.hashed {
			if l.wanted[key.K(k)] {
				v.hits = append(v.hits, int32(row))
			}
		}
	}
	n := 0
	for _, row := range v.hits {
		if t.u8[families][row]&is6 == 0 {
			v.hits[n] = row
			n++
		}
	}
	v.hits = v.hits[:n]
	return nil
}

// matchRows fills v.hits by hashing one flow at a time: for IPv6, for masks
// without an address, and for several keys of the paper's hash.
func (l *lookup) matchRows(v *visitor, i int) error {
	if err := v.keys(allKeys); err != nil {
		return err
	}
	if err := v.common(i); err != nil {
		return err
	}
	v.hits = v.hits[:0]
	var f flow.Flow
	for row := range v.rows.n {
		v.rows.endpoints(row, &f)
		if k, ok := l.keyer.Flow(&f); ok && l.wanted[k] {
			v.hits = append(v.hits, int32(row))
		}
	}
	return nil
}
