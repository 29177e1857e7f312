package daw

// index finds the slot of a key: open addressing with linear probing, at most
// 3/4 full. It holds slot numbers only; keys stay with the slots, so that a
// million addresses cost 8 MB here. Each cell has some bits of the hash too, so
// that probing hardly ever fetches a slot in vain: those lie far apart, and
// fetching one costs more than all else.
type index struct {
	cells []uint32 // hash bits, then slot + 1; 0 if empty. A power of two long
	used  int
}

// slotBits is the part of a cell that holds slot + 1.
const slotBits = 26

func cellOf(slot uint32, hash uint64) uint32 {
	return uint32(hash>>(64-32+slotBits))<<slotBits | (slot + 1)
}

func slotOf(cell uint32) uint32 { return cell&(1<<slotBits-1) - 1 }

// find returns the slot for which is reports true, or -1.
func (x *index) find(hash uint64, is func(slot uint32) bool) int {
	if len(x.cells) == 0 {
		return -1
	}
	mask, bits := uint64(len(x.cells)-1), cellOf(0, hash)>>slotBits
	for i := hash & mask; ; i = (i + 1) & mask {
		switch cell := x.cells[i]; {
		case cell == 0:
			return -1
		case cell>>slotBits == bits && is(slotOf(cell)):
			return int(slotOf(cell))
		}
	}
}

// add enters a slot that is not yet there; hashOf gives the hash of any slot.
func (x *index) add(slot uint32, hashOf func(uint32) uint64) {
	if 4*(x.used+1) > 3*len(x.cells) {
		x.grow(hashOf)
	}
	x.put(slot, hashOf(slot))
	x.used++
}

func (x *index) put(slot uint32, hash uint64) {
	mask := uint64(len(x.cells) - 1)
	i := hash & mask
	for x.cells[i] != 0 {
		i = (i + 1) & mask
	}
	x.cells[i] = cellOf(slot, hash)
}

func (x *index) grow(hashOf func(uint32) uint64) {
	old := x.cells
	x.cells = make([]uint32, max(16, 2*len(old)))
	for _, cell := range old {
		if cell != 0 {
			x.put(slotOf(cell), hashOf(slotOf(cell)))
		}
	}
}

// remove takes a slot out and closes the gap it leaves, so that later probes
// need no marks of what was deleted.
func (x *index) remove(slot uint32, hashOf func(uint32) uint64) {
	mask := uint64(len(x.cells) - 1)
	cell := cellOf(slot, hashOf(slot))
	hole := hashOf(slot) & mask
	for x.cells[hole] != cell {
		if x.cells[hole] == 0 {
			return
		}
		hole = (hole + 1) & mask
	}
	for i := (hole + 1) & mask; x.cells[i] != 0; i = (i + 1) & mask {
		home := hashOf(slotOf(x.cells[i])) & mask
		// The cell may move into the hole unless its home lies between them.
		if (i-home)&mask >= (i-hole)&mask {
			x.cells[hole] = x.cells[i]
			hole = i
		}
	}
	x.cells[hole] = 0
	x.used--
}
