package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/bits"

	"dragnet/flow"
	"dragnet/flow/key"
)

// A run file holds, for each standard question, the keys of one segment's flows
// in sorted order, each with the block in which it occurs:
//
//	magic, sections, directory, length and CRC-32C of the directory, magic
//
// A key is Linear's 31 bits under the epoch's salt. It is stored as its low 24
// bits in reverse, so that the keys of any question, which are the low end of
// it, are adjacent, whatever their size; more than 24 bits would only save
// blocks, whose flows are hashed anyway. With the block's 8 bits below, an
// entry is a 32-bit number. A section is its distinct entries in ascending
// order, cut into buckets by their upper bits; a bucket is the differences of
// its entries, the first from the bucket's lower end, as variable-length
// integers.
//
// The directory is the epoch after its length (8 bits) and then, for each
// section, the standard question's number (16 bits), the number of upper bits
// (8 bits), and for each bucket its offset, length and CRC-32C (32 bits each).
const (
	runMagic = "DNETRUN2"
	// oldRunMagic marks runs whose salts differ by mask. They are not used: the
	// flows are hashed until the next run is written.
	oldRunMagic = "DNETRUN1"
	// bucketEntries is the approximate number of entries of a bucket.
	bucketEntries = 256
	maxBucketBits = 12
	keyBits       = 24
	maxDirectory  = 64 + 8*(3+12<<maxBucketBits)
)

// indexer computes the runs of a segment, block by block. One goroutine uses
// it at a time.
type indexer struct {
	epoch    string
	standard []key.Standard
	keyers   []*key.Keyer
	entries  [][]uint32
	keys     []uint32
	spare    []uint32
}

// newIndexer makes runs for the salts of epoch.
func newIndexer(epoch string) (*indexer, error) {
	x := &indexer{epoch: epoch, standard: key.Catalogue()}
	for _, s := range x.standard {
		k, err := key.NewKeyer(s.Mask, s.End, key.Hash{Kind: key.Linear, Bits: key.MaxBits}, key.OneShotSalt(s.Mask, epoch))
		if err != nil {
			return nil, err
		}
		x.keyers = append(x.keyers, k)
	}
	x.entries = make([][]uint32, len(x.standard))
	return x, nil
}

// addBlock takes the rows of block number n.
func (x *indexer) addBlock(n int, t *table) {
	for i, s := range x.standard {
		low, is6 := otherEnd(s.End)
		before := len(x.entries[i])
		if s.Mask.Family == key.IPv4 {
			x.keys = x.keyers[i].AppendKeys(x.keys[:0], key.TupleColumns{Addr4: t.u32[low][:t.n], DPort: t.u16[respPort][:t.n], Proto: t.u8[proto][:t.n]})
		} else {
			x.keys = x.slowKeys(x.keys[:0], i, t, is6)
		}
		for row, k := range x.keys {
			if (t.u8[families][row]&is6 != 0) == (s.Mask.Family == key.IPv6) {
				x.entries[i] = append(x.entries[i], bits.Reverse32(k)&^0xff|uint32(n))
			}
		}
		// Within a block most keys repeat; each is stored once.
		added := x.entries[i][before:]
		x.entries[i] = x.entries[i][:before+len(x.sortDistinct(added))]
	}
}

// slowKeys hashes IPv6 rows one at a time; other rows have no key.
func (x *indexer) slowKeys(dst []uint32, i int, t *table, is6 uint8) []uint32 {
	var f flow.Flow
	for row := range t.n {
		var k key.K
		if t.u8[families][row]&is6 != 0 {
			t.setEndpoints(row, &f)
			k, _ = x.keyers[i].Flow(&f)
		}
		dst = append(dst, uint32(k))
	}
	return dst
}

// setEndpoints sets the fields that keys are made of.
func (t *table) setEndpoints(i int, f *flow.Flow) {
	kinds := t.u8[families][i]
	f.Orig = joinAddr(t.u64[origHi][i], t.u32[origMid][i], t.u32[origLow][i], kinds&origIs6 != 0)
	f.Resp = joinAddr(t.u64[respHi][i], t.u32[respMid][i], t.u32[respLow][i], kinds&respIs6 != 0)
	f.RespPort, f.Proto = t.u16[respPort][i], flow.Proto(t.u8[proto][i])
	if t.u16[origPort] != nil {
		f.OrigPort = t.u16[origPort][i]
	}
}

// otherEnd is the column with the low part of the address that a key of end
// holds, and the bit of families for its version.
func otherEnd(end key.End) (low int, is6 uint8) {
	if end == key.In {
		return origLow, origIs6
	}
	return respLow, respIs6
}

// sortDistinct sorts entries and drops repeats.
func (x *indexer) sortDistinct(entries []uint32) []uint32 {
	x.spare = sortNumbers(entries, x.spare)
	n := 0
	for i, v := range entries {
		if i == 0 || v != entries[n-1] {
			entries[n] = v
			n++
		}
	}
	return entries[:n]
}

// sortNumbers is a radix sort, 11 bits a pass: it sorts half a million numbers
// several times as fast as comparing them does. It returns spare, grown.
func sortNumbers(a, spare []uint32) []uint32 {
	const digit, passes = 11, 3
	if cap(spare) < len(a) {
		spare = make([]uint32, max(len(a), blockRows))
	}
	from, to := a, spare[:len(a)]
	for p := range passes {
		shift := p * digit
		var count [1 << digit]uint32
		for _, v := range from {
			count[v>>shift&(1<<digit-1)]++
		}
		at := uint32(0)
		for i, c := range count {
			count[i] = at
			at += c
		}
		for _, v := range from {
			d := v >> shift & (1<<digit - 1)
			to[count[d]] = v
			count[d]++
		}
		from, to = to, from
	}
	copy(a, from)
	return spare
}

// finishRun returns the run file of the blocks added since the last finish.
func (x *indexer) finishRun() []byte {
	out := []byte(runMagic)
	directory := append([]byte{byte(len(x.epoch))}, x.epoch...)
	for i, s := range x.standard {
		entries := x.sortDistinct(x.entries[i])
		upper := min(maxBucketBits, bits.Len(uint(len(entries)/bucketEntries)))
		directory = binary.LittleEndian.AppendUint16(directory, s.ID)
		directory = append(directory, byte(upper))
		for bucket := range 1 << upper {
			begin := len(out)
			low := uint32(uint64(bucket) << (32 - upper))
			previous := low
			for len(entries) > 0 && uint64(entries[0])>>(32-upper) == uint64(bucket) {
				out = binary.AppendUvarint(out, uint64(entries[0]-previous))
				previous, entries = entries[0], entries[1:]
			}
			directory = appendExtent(directory, extent{uint32(begin), uint32(len(out) - begin), crc32.Checksum(out[begin:], castagnoli)})
		}
		x.entries[i] = x.entries[i][:0]
	}
	out = append(out, directory...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(directory)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(directory, castagnoli))
	return append(out, runMagic...)
}

// run is the directory of a run file.
type run struct {
	epoch    string
	sections map[uint16][]extent
}

func readRun(r io.ReaderAt, size int64) (*run, error) {
	var tail [tailLength]byte
	if size < int64(tailLength) {
		return nil, damagedError("%d bytes are not a run", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(tailLength)); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[8:]) != runMagic || length < 1 || length > maxDirectory || length > size-int64(tailLength) {
		return nil, damagedError("it does not end like a run: truncated, or not a run")
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, size-int64(tailLength)-length); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(tail[4:]) {
		return nil, damagedError("its directory has a wrong checksum")
	}
	return parseRun(b)
}

func parseRun(b []byte) (*run, error) {
	n := int(b[0])
	if len(b) < 1+n {
		return nil, damagedError("its directory ends early")
	}
	r := &run{epoch: string(b[1 : 1+n]), sections: map[uint16][]extent{}}
	for b = b[1+n:]; len(b) > 0; {
		if len(b) < 3 || b[2] > maxBucketBits || len(b) < 3+12<<b[2] {
			return nil, damagedError("its directory ends early")
		}
		id, buckets := binary.LittleEndian.Uint16(b), 1<<b[2]
		b = b[3:]
		section := make([]extent, buckets)
		for i := range section {
			section[i] = parseExtent(b[12*i:])
		}
		r.sections[id] = section
		b = b[12*buckets:]
	}
	return r, nil
}

// findBlocks marks in blocks those that may hold a flow with key k of size
// bits, as the answer to standard question id; ok is false if the run does not
// have that question.
func (r *run) findBlocks(file io.ReaderAt, id uint16, k key.K, size int, blocks *[segmentRows / blockRows]bool) (ok bool, err error) {
	section := r.sections[id]
	if section == nil {
		return false, nil
	}
	size = min(size, keyBits)
	first := uint64(bits.Reverse32(uint32(k) & (1<<size - 1)))
	last := first + 1<<(32-size) - 1
	lower := 32 - bits.Len(uint(len(section)-1)) // bits of an entry inside its bucket
	for i := first >> lower; i <= last>>lower; i++ {
		if err := findIn(file, section[i], uint64(i)<<lower, first, last, blocks); err != nil {
			return false, err
		}
	}
	return true, nil
}

func findIn(file io.ReaderAt, e extent, at, first, last uint64, blocks *[segmentRows / blockRows]bool) error {
	if e.length > segmentRows*binary.MaxVarintLen32 {
		return damagedError("a bucket is of %d bytes", e.length)
	}
	b := make([]byte, e.length)
	if _, err := file.ReadAt(b, int64(e.offset)); err == io.EOF {
		return damagedError("truncated")
	} else if err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != e.sum {
		return damagedError("the checksum of the bytes from %d on is wrong", e.offset)
	}
	for len(b) > 0 && at <= last {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<32 {
			return damagedError("a bucket ends early")
		}
		b = b[n:]
		if at += v; at >= first && at <= last {
			blocks[at&0xff] = true
		}
	}
	return nil
}
