package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"dragnet/flow"
)

// footer has the extents of the blocks of a segment.
type footer struct {
	rows       int
	dictionary extent
	blocks     []block
}

// rowsOf is the number of rows of block i.
func (f *footer) rowsOf(i int) int { return min(blockRows, f.rows-i*blockRows) }

// readFooter reads and checks the footer of a segment of size bytes.
func readFooter(r io.ReaderAt, size int64) (*footer, error) {
	var magic [len(segmentMagic)]byte
	var tail [tailLength]byte
	if size < int64(tailLength) || size >= 1<<32 {
		return nil, damagedError("%d bytes are not a segment", size)
	}
	if _, err := r.ReadAt(magic[:], 0); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(tail[:], size-int64(tailLength)); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(magic[:]) != segmentMagic || string(tail[8:]) != segmentMagic || length < footerFixed || length > maxFooter || length > size-int64(tailLength) {
		return nil, damagedError("it does not start and end like a segment: truncated, or not a segment")
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, size-int64(tailLength)-length); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(tail[4:]) {
		return nil, damagedError("its footer has a wrong checksum")
	}
	return parseFooter(b)
}

func parseFooter(b []byte) (*footer, error) {
	f := &footer{rows: int(binary.LittleEndian.Uint32(b)), dictionary: parseExtent(b[4:])}
	b = b[footerFixed:]
	blocks := (f.rows + blockRows - 1) / blockRows
	if f.rows == 0 || f.rows > segmentRows || len(b) != blocks*footerBlock {
		return nil, damagedError("its footer is of %d rows and %d bytes", f.rows, len(b))
	}
	for ; len(b) > 0; b = b[footerBlock:] {
		f.blocks = append(f.blocks, block{
			keys: parseExtent(b), common: parseExtent(b[12:]), detail: parseExtent(b[24:]),
			first: int64(binary.LittleEndian.Uint64(b[36:])), last: int64(binary.LittleEndian.Uint64(b[44:])),
		})
	}
	return f, nil
}

func parseExtent(b []byte) extent {
	return extent{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}
}

// maxPart bounds a part, packed or not: every column whole, with its lengths.
const maxPart = blockRows*rowBytes + 4096

// blockReader reads blocks of one segment after the other. One goroutine uses
// it at a time.
type blockReader struct {
	dec     *decoder
	buf     []byte
	part    []byte // the key part, within buf
	scratch []uint64
	// rows is the last block read, with the columns requested.
	rows *table
	full *table // where the columns of rows live

	file   io.ReaderAt
	footer *footer
	dict   []string // of the segment, once a detail part was read
}

func newBlockReader() (*blockReader, error) {
	dec, err := newDecoder()
	return &blockReader{dec: dec, rows: &table{}, full: newTable(blockRows), scratch: make([]uint64, blockRows)}, err
}

// openSegment switches to another segment.
func (r *blockReader) openSegment(file io.ReaderAt, f *footer) {
	r.file, r.footer, r.dict = file, f, nil
}

// readExtent reads an extent into memory and checks its sum. The result is valid
// until the next call.
func (r *blockReader) readExtent(e extent) ([]byte, error) {
	if e.length > max(maxPart, maxDictionary) {
		return nil, damagedError("a part is of %d bytes", e.length)
	}
	if cap(r.buf) < int(e.length) {
		r.buf = make([]byte, e.length)
	}
	b := r.buf[:e.length]
	if _, err := r.file.ReadAt(b, int64(e.offset)); err == io.EOF {
		return nil, damagedError("truncated")
	} else if err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != e.sum {
		return nil, damagedError("the checksum of the bytes from %d on is wrong", e.offset)
	}
	return b, nil
}

// loadKeyPart switches to block i and loads its key part, for unpackKeys.
func (r *blockReader) loadKeyPart(i int) error {
	*r.rows = table{n: r.footer.rowsOf(i)}
	b, err := r.readExtent(r.footer.blocks[i].keys)
	if err == nil && len(b) < 4*keyColumns {
		err = damagedError("a key part is of %d bytes", len(b))
	}
	r.part = b
	return err
}

// keySet is a set of columns of the key part.
type keySet uint32

func keySetOf(columns ...int) (s keySet) {
	for _, c := range columns {
		s |= 1 << c
	}
	return s
}

const allKeys keySet = 1<<keyColumns - 1

// unpackKeys unpacks columns of the key part last loaded by loadKeyPart.
func (r *blockReader) unpackKeys(want keySet) error {
	rest := r.part[4*keyColumns:]
	for i := range keyColumns {
		size := int(binary.LittleEndian.Uint32(r.part[4*i:]))
		if size > len(rest) {
			return damagedError("a column ends early")
		}
		if want&(1<<i) != 0 {
			if err := r.unpackKey(i, rest[:size]); err != nil {
				return err
			}
		}
		rest = rest[size:]
	}
	return nil
}

func (r *blockReader) unpackKey(i int, src []byte) error {
	t, full := r.rows, r.full
	switch i {
	case keyOrigLow, keyRespLow:
		c := origLow + i - keyOrigLow
		return unpackFramed(src, &t.u32[c], full.u32[c], t.n)
	case keyOrigPort, keyRespPort:
		c := origPort + i - keyOrigPort
		return unpackFramed(src, &t.u16[c], full.u16[c], t.n)
	case keyProto:
		return unpackFramed(src, &t.u8[proto], full.u8[proto], t.n)
	}
	return unpackFramed(src, &t.u8[families], full.u8[families], t.n)
}

// unpackFramed unpacks a column into memory and marks it present, unless it is
// already.
func unpackFramed[T unsigned](src []byte, present *[]T, memory []T, n int) error {
	if *present != nil {
		return nil
	}
	*present = memory[:n]
	return readFrame(src, *present)
}

// readCommon adds the common part of block i to the rows.
func (r *blockReader) readCommon(i int) error {
	b, err := r.unpackPart(r.footer.blocks[i].common)
	if err != nil {
		return err
	}
	t, full := r.rows, r.full
	t.start = full.start[:t.n]
	if b, err = readTimes(b, t.start, r.scratch); err != nil {
		return err
	}
	if b, err = unpackColumns(b, common64[:], t.u64[:], full.u64[:], t.n); err != nil {
		return err
	}
	if b, err = unpackColumns(b, common32[:], t.u32[:], full.u32[:], t.n); err != nil {
		return err
	}
	if b, err = unpackColumns(b, common16[:], t.u16[:], full.u16[:], t.n); err != nil {
		return err
	}
	_, err = unpackColumns(b, common8[:], t.u8[:], full.u8[:], t.n)
	return err
}

// readDetails adds the detail part of block i to the rows.
func (r *blockReader) readDetails(i int) error {
	if r.dict == nil {
		if err := r.readDictionary(); err != nil {
			return err
		}
	}
	b, err := r.unpackPart(r.footer.blocks[i].detail)
	if err != nil {
		return err
	}
	t, full := r.rows, r.full
	t.u64[duration] = full.u64[duration][:t.n]
	if b, err = readScaled(b, t.u64[duration]); err != nil {
		return err
	}
	if b, err = unpackColumns(b, detail64[:], t.u64[:], full.u64[:], t.n); err != nil {
		return err
	}
	if b, err = unpackColumns(b, detail32[:], t.u32[:], full.u32[:], t.n); err != nil {
		return err
	}
	if _, err = unpackColumns(b, detail8[:], t.u8[:], full.u8[:], t.n); err != nil {
		return err
	}
	t.histories = r.dict
	for _, h := range t.u32[history] {
		if int(h) >= len(r.dict) {
			return damagedError("history %d of a dictionary of %d", h, len(r.dict))
		}
	}
	return nil
}

func (r *blockReader) unpackPart(e extent) ([]byte, error) {
	b, err := r.readExtent(e)
	if err != nil {
		return nil, err
	}
	return r.dec.unpack(b)
}

// unpackColumns unpacks the columns of which into memory and marks them
// present.
func unpackColumns[T unsigned](src []byte, which []int, present, memory [][]T, n int) (rest []byte, err error) {
	for _, c := range which {
		present[c] = memory[c][:n]
		if src, err = readPlanes(src, present[c]); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// maxDictionary is the largest possible size.
const maxDictionary = 4 + maxHistory*(maxHistoryLength+1)

func (r *blockReader) readDictionary() error {
	e := r.footer.dictionary
	if e.length < 5 {
		return damagedError("its dictionary is of %d bytes", e.length)
	}
	b, err := r.readExtent(e)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	var dict []string
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return damagedError("its dictionary ends early")
		}
		dict = append(dict, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	if len(dict) == 0 {
		return damagedError("its dictionary is empty")
	}
	r.dict = dict
	return nil
}

// readBlock reads block i: the columns every flow has, and the details if cols
// includes any.
func (r *blockReader) readBlock(i int, cols flow.Columns) error {
	if err := r.loadKeyPart(i); err != nil {
		return err
	}
	if err := r.unpackKeys(allKeys); err != nil {
		return err
	}
	if err := r.readCommon(i); err != nil {
		return err
	}
	if cols&^flow.Failures != 0 {
		return r.readDetails(i)
	}
	return nil
}
