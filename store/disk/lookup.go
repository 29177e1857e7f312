package disk

import (
	"context"
	"encoding/binary"
	"net/netip"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Lookup calls fn with the flows in w whose key is among the clue's. If the
// clue is a standard question under the salts of a segment's run, it reads only
// the blocks that the run lists; otherwise it hashes the columns of all. The columns
// that the clue's bounds need are filled. ok is always true.
func (s *Store) Lookup(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error) {
	return s.LookupAmong(ctx, c, h, w, nil, fn)
}

// LookupAmong is Lookup where only flows whose X is one of hosts matter, unless that is
// nil: it may leave out others, and does where that saves unpacking columns.
func (s *Store) LookupAmong(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, hosts map[netip.Addr]bool, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error) {
	keyer, err := key.NewKeyer(c.Mask, c.End, h, c.Salt)
	if err != nil {
		return flow.Coverage{}, false, err
	}
	l := &lookupQuery{ctx: ctx, clue: c, hash: h, keyer: keyer, window: w, fn: fn, wanted: map[key.K]bool{}, salted: map[string]bool{}}
	for _, k := range c.Keys {
		l.wanted[k.K] = true
	}
	if hosts != nil {
		l.hosts = newHostFilter(hosts)
	}
	for _, g := range s.currentCatalogue().Segments {
		if _, seen := l.salted[g.Epoch]; !seen && g.Epoch != "" {
			l.salted[g.Epoch] = key.OneShotSalt(c.Mask, g.Epoch) == c.Salt
		}
	}
	cov, err = s.eachSegment(ctx, w, l.visitSegment)
	return cov, true, err
}

// maxIndexed is the number of keys of one clue up to which runs are used;
// beyond, nearly every block holds one of them.
const maxIndexed = 1024

// lookupQuery is shared, unchanged, by the goroutines of one Lookup.
type lookupQuery struct {
	ctx    context.Context
	clue   *dossier.AskedClue
	hash   key.Hash
	keyer  *key.Keyer
	window flow.Window
	fn     func([]flow.Flow) error
	wanted map[key.K]bool
	hosts  *hostFilter // nil if all matter
	// salted reports for each epoch whether the clue's salt is of it.
	salted map[string]bool
}

func (l *lookupQuery) visitSegment(v *visitor) error {
	blocks, indexed := l.findBlocks(v.segment)
	for i, b := range v.footer.blocks {
		if indexed && !blocks[i] || !windowOverlaps(l.window, b.first, b.last) {
			continue
		}
		if err := l.matchBlock(v, i); err != nil {
			return err
		}
		if l.ctx.Err() != nil {
			return stop{l.ctx.Err()}
		}
	}
	return nil
}

// findBlocks looks the keys up in the segment's run. Without a readable run it
// only takes longer.
func (l *lookupQuery) findBlocks(g *segment) (blocks [segmentRows / blockRows]bool, ok bool) {
	if l.clue.Standard == 0 || l.hash.Kind != key.Linear || len(l.clue.Keys) > maxIndexed || !l.salted[g.Epoch] || g.openRun() != nil {
		return blocks, false
	}
	for _, k := range l.clue.Keys {
		if ok, err := g.run.findBlocks(g.runFile, l.clue.Standard, k.K, int(l.hash.Bits), &blocks); err != nil || !ok {
			return blocks, false
		}
	}
	return blocks, true
}

// matchBlock finds the matching rows of a block by the columns of the mask alone,
// and unpacks the others only if there are any.
func (l *lookupQuery) matchBlock(v *visitor, i int) error {
	if err := v.loadKeyPart(i); err != nil {
		return err
	}
	var err error
	if l.clue.Mask.Family == key.NoAddr {
		err = l.matchPorts(v)
	} else if l.clue.Mask.Family == key.IPv4 && (len(l.clue.Keys) == 1 || l.hash.Kind == key.Linear) {
		err = l.matchColumns(v)
	} else {
		err = l.matchRows(v, i)
	}
	if err != nil || len(v.hits) == 0 {
		return err
	}
	if v.rows.start == nil {
		// The checksum of the key part was verified already; only more columns
		// are unpacked.
		if err := v.unpackKeys(allKeys); err != nil {
			return err
		}
		if err := v.readCommon(i); err != nil {
			return err
		}
	}
	if l.clue.Bounds.Columns() != 0 {
		if err := v.readDetails(i); err != nil {
			return err
		}
	}
	v.batch = v.batch[:0]
	for _, row := range v.hits {
		if l.window.Contains(flow.Time(v.rows.start[row])) {
			v.batch = append(v.batch, flow.Flow{})
			v.rows.toFlow(int(row), &v.batch[len(v.batch)-1])
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
func (l *lookupQuery) matchColumns(v *visitor) error {
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
	if err := v.unpackKeys(want); err != nil {
		return err
	}
	t := v.rows
	c := key.TupleColumns{Addr4: t.u32[low], SPort: t.u16[origPort], DPort: t.u16[respPort], Proto: t.u8[proto]}
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

// matchRows fills v.hits by hashing one flow at a time: for IPv6, and for several keys
// of the paper's hash.
func (l *lookupQuery) matchRows(v *visitor, i int) error {
	if err := v.unpackKeys(allKeys); err != nil {
		return err
	}
	if err := v.readCommon(i); err != nil {
		return err
	}
	v.hits = v.hits[:0]
	var f flow.Flow
	for row := range v.rows.n {
		v.rows.setEndpoints(row, &f)
		if k, ok := l.keyer.Flow(&f); ok && l.wanted[k] {
			v.hits = append(v.hits, int32(row))
		}
	}
	return nil
}

// matchPorts fills v.hits for a mask without an address, of which nearly every flow may
// have the key: rows whose X does not matter are not hashed.
func (l *lookupQuery) matchPorts(v *visitor) error {
	x, k := respLow, keyRespLow
	if l.clue.End == key.Out {
		x, k = origLow, keyOrigLow
	}
	v.hits = v.hits[:0]
	if l.hosts != nil {
		if err := v.unpackKeys(keySetOf(k)); err != nil {
			return err
		}
		for row, low := range v.rows.u32[x] {
			if l.hosts.mayHave(low) {
				v.hits = append(v.hits, int32(row))
			}
		}
		if len(v.hits) == 0 {
			return nil
		}
	} else {
		for row := range v.rows.n {
			v.hits = append(v.hits, int32(row))
		}
	}
	if err := v.unpackKeys(keySetOf(keyOrigPort, keyRespPort, keyProto)); err != nil {
		return err
	}
	t, n := v.rows, 0
	var f flow.Flow
	for _, row := range v.hits {
		f.OrigPort, f.RespPort, f.Proto = t.u16[origPort][row], t.u16[respPort][row], flow.Proto(t.u8[proto][row])
		if k, ok := l.keyer.Flow(&f); ok && l.wanted[k] {
			v.hits[n] = row
			n++
		}
	}
	v.hits = v.hits[:n]
	return nil
}

// hostFilter shows quickly that a host is not among some, by the low 32 bits of its
// address: a bit for each of their hashes.
type hostFilter [1 << 15]uint64

func newHostFilter(hosts map[netip.Addr]bool) *hostFilter {
	f := &hostFilter{}
	for a := range hosts {
		b := a.As16()
		at := f.place(binary.BigEndian.Uint32(b[12:]))
		f[at/64] |= 1 << (at % 64)
	}
	return f
}

// place is the bit of an address: the upper bits of a product with the golden ratio
// (Knuth, The Art of Computer Programming, volume 3, section 6.4).
func (*hostFilter) place(low uint32) uint32 { return low * 2654435769 >> (32 - 21) }

func (f *hostFilter) mayHave(low uint32) bool {
	at := f.place(low)
	return f[at/64]>>(at%64)&1 != 0
}
