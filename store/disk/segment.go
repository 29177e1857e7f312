package disk

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A segment file is
//
//	magic, the key parts of all blocks, then their common parts, then their
//	detail parts, dictionary, footer, length and CRC-32C of the footer (32 bits
//	each), magic
//
// with all numbers little-endian. The key part holds, framed, the columns that
// most keys are made of, each after its length (32 bits); the common part the
// other columns that every flow has; the detail part the optional ones. The
// latter two are compressed.
//
// The footer is the number of rows (32 bits), offset, length and CRC-32C of the
// dictionary, then for each block the same of its three parts, and the first
// and the last start (64 bits).
const (
	segmentMagic = "DNETSEG1"
	tailLength   = 8 + len(segmentMagic)
	footerFixed  = 16
	footerBlock  = 3*12 + 16
	// maxFooter is the footer of a full segment.
	maxFooter = footerFixed + footerBlock*segmentRows/blockRows
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The columns of the key part, in the order in which they are stored.
const (
	keyOrigLow = iota
	keyRespLow
	keyOrigPort
	keyRespPort
	keyProto
	keyFamilies
	keyColumns
)

// The columns of the common part beside start, and of the detail part beside
// duration.
var (
	common64 = [...]int{origHi, respHi}
	common32 = [...]int{origMid, respMid, sampling}
	common16 = [...]int{icmpError, known}
	common8  = [...]int{state}
	detail64 = [...]int{origBytes, respBytes, origPkts, respPkts, origIPBytes, respIPBytes, missedBytes, exporterHi, exporterLow}
	detail32 = [...]int{domain, origISN, respISN, history}
	detail8  = [...]int{origFlags, respFlags}
)

// extent is a checked piece of a file.
type extent struct{ offset, length, sum uint32 }

// block is an entry of the footer.
type block struct {
	keys, common, detail extent
	first, last          int64
}

// builder turns tables into segment files. One goroutine uses it at a time.
type builder struct {
	enc   *encoder
	order []int32
	rows  *table // one block, in order of time
}

func newBuilder() (*builder, error) {
	enc, err := newEncoder()
	return &builder{enc: enc, rows: newTable(blockRows)}, err
}

// buildSegment writes t, which has at least one row and at most segmentRows, as
// a segment, and calls each for each block.
func (b *builder) buildSegment(t *table, each func(number int, rows *table)) []byte {
	order := b.sortRows(t)
	keys := append(make([]byte, 0, 16*t.n), segmentMagic...)
	var common, details []byte
	var blocks []block
	for from := 0; from < t.n; from += blockRows {
		b.rows.gatherRows(t, order[from:min(from+blockRows, t.n)])
		each(len(blocks), b.rows)
		k := block{first: b.rows.start[0], last: b.rows.start[b.rows.n-1]}
		keys, k.keys = appendPart(keys, b.rows.appendKeys)
		common, k.common = appendPart(common, b.appendCommon)
		details, k.detail = appendPart(details, b.appendDetail)
		blocks = append(blocks, k)
	}
	for i := range blocks {
		blocks[i].common.offset += uint32(len(keys))
		blocks[i].detail.offset += uint32(len(keys) + len(common))
	}
	out := slices.Concat(keys, common, details)
	dictionary := appendDictionary(nil, t.histories)
	at := extent{uint32(len(out)), uint32(len(dictionary)), crc32.Checksum(dictionary, castagnoli)}
	out = append(out, dictionary...)
	footer := appendFooter(nil, t.n, at, blocks)
	out = append(out, footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(footer, castagnoli))
	return append(out, segmentMagic...)
}

// sortRows returns the order of t's rows by time. Logs are nearly in order,
// which the standard sort exploits.
func (b *builder) sortRows(t *table) []int32 {
	b.order = b.order[:0]
	for i := range t.n {
		b.order = append(b.order, int32(i))
	}
	start := t.start[:t.n]
	if !slices.IsSorted(start) {
		slices.SortFunc(b.order, func(x, y int32) int { return cmp.Or(cmp.Compare(start[x], start[y]), cmp.Compare(x, y)) })
	}
	return b.order
}

// gatherRows makes t the given rows of from.
func (t *table) gatherRows(from *table, rows []int32) {
	t.n = len(rows)
	pickRows(t.start, from.start, rows)
	for i := range t.u64 {
		pickRows(t.u64[i], from.u64[i], rows)
	}
	for i := range t.u32 {
		pickRows(t.u32[i], from.u32[i], rows)
	}
	for i := range t.u16 {
		pickRows(t.u16[i], from.u16[i], rows)
	}
	for i := range t.u8 {
		pickRows(t.u8[i], from.u8[i], rows)
	}
}

func pickRows[T any](dst, src []T, rows []int32) {
	for i, r := range rows {
		dst[i] = src[r]
	}
}

func appendPart(dst []byte, part func([]byte) []byte) ([]byte, extent) {
	begin := len(dst)
	dst = part(dst)
	return dst, extent{uint32(begin), uint32(len(dst) - begin), crc32.Checksum(dst[begin:], castagnoli)}
}

// appendKeys appends the key part of t.
func (t *table) appendKeys(dst []byte) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, 4*keyColumns)...)
	for i := range keyColumns {
		at := len(dst)
		switch i {
		case keyOrigLow, keyRespLow:
			dst = appendFrame(dst, t.u32[origLow+i-keyOrigLow][:t.n])
		case keyOrigPort, keyRespPort:
			dst = appendFrame(dst, t.u16[origPort+i-keyOrigPort][:t.n])
		case keyProto:
			dst = appendFrame(dst, t.u8[proto][:t.n])
		default:
			dst = appendFrame(dst, t.u8[families][:t.n])
		}
		binary.LittleEndian.PutUint32(dst[begin+4*i:], uint32(len(dst)-at))
	}
	return dst
}

func (b *builder) appendCommon(dst []byte) []byte {
	t := b.rows
	body := b.enc.appendTimes(b.enc.planes[:0], t.start[:t.n])
	body = appendColumns(body, common64[:], t.u64[:], t.n)
	body = appendColumns(body, common32[:], t.u32[:], t.n)
	body = appendColumns(body, common16[:], t.u16[:], t.n)
	body = appendColumns(body, common8[:], t.u8[:], t.n)
	b.enc.planes = body
	return b.enc.zstd.EncodeAll(body, dst)
}

func (b *builder) appendDetail(dst []byte) []byte {
	t := b.rows
	body := appendScaled(b.enc.planes[:0], t.u64[duration][:t.n])
	body = appendColumns(body, detail64[:], t.u64[:], t.n)
	body = appendColumns(body, detail32[:], t.u32[:], t.n)
	body = appendColumns(body, detail8[:], t.u8[:], t.n)
	b.enc.planes = body
	return b.enc.zstd.EncodeAll(body, dst)
}

func appendColumns[T unsigned](dst []byte, which []int, columns [][]T, n int) []byte {
	for _, c := range which {
		dst = appendPlanes(dst, columns[c][:n])
	}
	return dst
}

// appendDictionary appends the number of entries, and each after its length;
// entry 0 is always "".
func appendDictionary(dst []byte, entries []string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entries)))
	for _, s := range entries {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return dst
}

func appendFooter(dst []byte, rows int, dictionary extent, blocks []block) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(rows))
	dst = appendExtent(dst, dictionary)
	for _, k := range blocks {
		dst = appendExtent(appendExtent(appendExtent(dst, k.keys), k.common), k.detail)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(k.first))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(k.last))
	}
	return dst
}

func appendExtent(dst []byte, e extent) []byte {
	for _, v := range [...]uint32{e.offset, e.length, e.sum} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}
