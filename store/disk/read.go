package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"dragnet/flow"
)

// footer says where the blocks of a segment are.
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
		return nil, damaged("%d bytes are not a segment", size)
	}
	if _, err := r.ReadAt(magic[:], 0); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(tail[:], size-int64(tailLength)); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(magic[:]) != segmentMagic || string(tail[8:]) != segmentMagic || length < footerFixed || length > maxFooter || length > size-int64(tailLength) {
		return nil, damaged("it does not begin and end like a segment: cut off, or not one")
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, size-int64(tailLength)-length); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(tail[4:]) {
		return nil, damaged("the checksum of its footer is wrong")
	}
	return parseFooter(b)
}

func parseFooter(b []byte) (*footer, error) {
	f := &footer{rows: int(binary.LittleEndian.Uint32(b)), dictionary: parseExtent(b[4:])}
	b = b[footerFixed:]
	blocks := (f.rows + blockRows - 1) / blockRows
	if f.rows == 0 || f.rows > segmentRows || len(b) != blocks*footerBlock {
		return nil, damaged("its footer is of %d rows and %d bytes", f.rows, len(b))
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
	part    []byte // the key part, inside buf
	scratch []uint64
	// rows is the block read last; it has the columns asked for.
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

// open turns to another segment.
func (r *blockReader) open(file io.ReaderAt, f *footer) { r.file, r.footer, r.dict = file, f, nil }

// read reads an extent into memory and checks its sum. The result is valid
// until the next call.
func (r *blockReader) read(e extent) ([]byte, error) {
	if e.length > max(maxPart, maxDictionary) {
		return nil, damaged("a part is of %d bytes", e.length)
	}
	if cap(r.buf) < int(e.length) {
		r.buf = make([]byte, e.length)
	}
	b := r.buf[:e.length]
	if _, err := r.file.ReadAt(b, int64(e.offset)); err == io.EOF {
		return nil, damaged("cut off")
	} else if err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != e.sum {
		return nil, damaged("the checksum of the bytes from %d on is wrong", e.offset)
	}
	return b, nil
}

// begin turns to block i and loads its key part; keys then unpacks from it.
func (r *blockReader) begin(i int) error {
	*r.rows = table{n: r.footer.rowsOf(i)}
	b, err := r.read(r.footer.blocks[i].keys)
	if err == nil && len(b) < 4*keyColumns {
		err = damaged("a key part is of %d bytes", len(b))
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

// keys unpacks columns of the key part, which begin must have loaded last.
func (r *blockReader) keys(want keySet) error {
	rest := r.part[4*keyColumns:]
	for i := range keyColumns {
		size := int(binary.LittleEndian.Uint32(r.part[4*i:]))
		if size > len(rest) {
			return damaged("a column ends early")
		}
		if want&(1<<i) != 0 {
			if err := r.key(i, rest[:size]); err != nil {
				return err
			}
		}
		rest = rest[size:]
	}
	return nil
}

func (r *blockReader) key(i int, src []byte) error {
	t, full := r.rows, r.full
	switch i {
	case keyOrigLow, keyRespLow:
		c := origLow + i - keyOrigLow
		return framed(src, &t.u32[c], full.u32[c], t.n)
	case keyOrigPort, keyRespPort:
		c := origPort + i - keyOrigPort
		return framed(src, &t.u16[c], full.u16[c], t.n)
	case keyProto:
		return framed(src, &t.u8[proto], full.u8[proto], t.n)
	}
	return framed(src, &t.u8[families], full.u8[families], t.n)
}

// framed unpacks a column into memory and makes it present, unless it is.
func framed[T unsigned](src []byte, present *[]T, memory []T, n int) error {
	if *present != nil {
		return nil
	}
	*present = memory[:n]
	return frame(src, *present)
}

// common adds the common part of block i to the rows.
func (r *blockReader) common(i int) error {
	b, err := r.unpack(r.footer.blocks[i].common)
	if err != nil {
		return err
	}
	t, full := r.rows, r.full
	t.start = full.start[:t.n]
	if b, err = times(b, t.start, r.scratch); err != nil {
		return err
	}
	if b, err = columns(b, common64[:], t.u64[:], full.u64[:], t.n); err != nil {
		return err
	}
	if b, err = columns(b, common32[:], t.u32[:], full.u32[:], t.n); err != nil {
		return err
	}
	if b, err = columns(b, common16[:], t.u16[:], full.u16[:], t.n); err != nil {
		return err
	}
	_, err = columns(b, common8[:], t.u8[:], full.u8[:], t.n)
	return err
}

// details adds the detail part of block i to the rows.
func (r *blockReader) details(i int) error {
	if r.dict == nil {
		if err := r.readDictionary(); err != nil {
			return err
		}
	}
	b, err := r.unpack(r.footer.blocks[i].detail)
	if err != nil {
		return err
	}
	t, full := r.rows, r.full
	t.u64[duration] = full.u64[duration][:t.n]
	if b, err = scaled(b, t.u64[duration]); err != nil {
		return err
	}
	if b, err = columns(b, detail64[:], t.u64[:], full.u64[:], t.n); err != nil {
		return err
	}
	if b, err = columns(b, detail32[:], t.u32[:], full.u32[:], t.n); err != nil {
		return err
	}
	if _, err = columns(b, detail8[:], t.u8[:], full.u8[:], t.n); err != nil {
		return err
	}
	t.histories = r.dict
	for _, h := range t.u32[history] {
		if int(h) >= len(r.dict) {
			return damaged("history %d of a dictionary of %d", h, len(r.dict))
		}
	}
	return nil
}

func (r *blockReader) unpack(e extent) ([]byte, error) {
	b, err := r.read(e)
	if err != nil {
		return nil, err
	}
	return r.dec.unpack(b)
}

// columns unpacks those of which into memory and makes them present.
func columns[T unsigned](src []byte, which []int, present, memory [][]T, n int) (rest []byte, err error) {
	for _, c := range which {
		present[c] = memory[c][:n]
		if src, err = planes(src, present[c]); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// maxDictionary is the largest there can be.
const maxDictionary = 4 + maxHistory*(maxHistoryLength+1)

func (r *blockReader) readDictionary() error {
	e := r.footer.dictionary
	if e.length < 5 {
		return damaged("its dictionary is of %d bytes", e.length)
	}
	b, err := r.read(e)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	var dict []string
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return damaged("its dictionary ends early")
		}
		dict = append(dict, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	if len(dict) == 0 {
		return damaged("its dictionary is empty")
	}
	r.dict = dict
	return nil
}

// block reads block i: what every flow has, and the details if cols asks for
// any.
func (r *blockReader) block(i int, cols flow.Columns) error {
	if err := r.begin(i); err != nil {
		return err
	}
	if err := r.keys(allKeys); err != nil {
		return err
	}
	if err := r.common(i); err != nil {
		return err
	}
	if cols&^flow.Failures != 0 {
		return r.details(i)
	}
	return nil
}
