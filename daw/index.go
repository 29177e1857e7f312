package daw

// index finds the slot of a key: open addressing with linear probing, at most
// 3/4 full. It holds slot numbers only; keys stay with the slots, so that a
// million addresses cost 8 MB here. Each cell has some bits of the hash too, so
// that probing rarely fetches a slot for nothing: slots lie far apart, and
// fetching one dominates the cost.
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

// findSlot returns the slot for which is reports true, or -1.
func (x *index) findSlot(hash uint64, is func(slot uint32) bool) int {
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

// addSlot adds a slot that is not in the index; hashOf gives the hash of any
// slot.
func (x *index) addSlot(slot uint32, hashOf func(uint32) uint64) {
	if 4*(x.used+1) > 3*len(x.cells) {
		x.growCells(hashOf)
	}
	x.putSlot(slot, hashOf(slot))
	x.used++
}

func (x *index) putSlot(slot uint32, hash uint64) {
	mask := uint64(len(x.cells) - 1)
	i := hash & mask
	for x.cells[i] != 0 {
		i = (i + 1) & mask
	}
	x.cells[i] = cellOf(slot, hash)
}

func (x *index) growCells(hashOf func(uint32) uint64) {
	old := x.cells
	x.cells = make([]uint32, max(16, 2*len(old)))
	for _, cell := range old {
		if cell != 0 {
			x.putSlot(slotOf(cell), hashOf(slotOf(cell)))
		}
	}
}

// removeSlot removes a slot and closes the gap, so that no tombstones are
// needed.
func (x *index) removeSlot(slot uint32, hashOf func(uint32) uint64) {
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
