package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Columns are stored in two ways.
//
// Those that keys are made of are framed, which unpacks at the speed of memory:
// the lowest value, in the column's width, then the number of bytes (0, 1, 2,
// 4 or 8) in which every difference from it fits, then the differences.
//
// The others are cut into byte planes: the lowest bytes of all values, then the
// next, and so on. The upper planes of small numbers are constant. A column is
// one bit for each plane that is not, then one byte for each constant plane,
// then the other planes. The columns start and duration are first divided by
// their unit (16 bits), 1000 ns if that divides all of them, else 1; start is a
// first value (64 bits) and differences. All such columns of a part are then
// compressed together. errDamaged is any inconsistency inside a segment or run;
// the wrapping error names the file.
var errDamaged = errors.New("damaged")

func damagedError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

type unsigned interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64
}

// planeCount is the number of byte planes of a T.
func planeCount[T unsigned]() int {
	n := 0
	for v := ^T(0); v != 0; v >>= 4 {
		v >>= 4
		n++
	}
	return n
}

// encoder packs columns; one goroutine uses it at a time.
type encoder struct {
	zstd    *zstd.Encoder
	planes  []byte
	scratch [blockRows]uint64
}

func newEncoder() (*encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	return &encoder{zstd: z}, err
}

// appendFrame appends values as differences from the lowest.
func appendFrame[T unsigned](dst []byte, values []T) []byte {
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	dst = appendNumber(dst, uint64(low), planeCount[T]())
	size := bytesOf(uint64(high - low))
	dst = append(dst, byte(size))
	for _, v := range values {
		dst = appendNumber(dst, uint64(v-low), size)
	}
	return dst
}

// bytesOf is how many bytes, 0, 1, 2, 4 or 8, hold v.
func bytesOf(v uint64) int {
	switch {
	case v == 0:
		return 0
	case v < 1<<8:
		return 1
	case v < 1<<16:
		return 2
	case v < 1<<32:
		return 4
	}
	return 8
}

func appendNumber(dst []byte, v uint64, size int) []byte {
	switch size {
	case 0:
		return dst
	case 1:
		return append(dst, byte(v))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	case 4:
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(dst, v)
}

// readFrame reads len(dst) values from src, which must be used up.
func readFrame[T unsigned](src []byte, dst []T) error {
	n := planeCount[T]()
	if len(src) < n+1 || len(src) != n+1+int(src[n])*len(dst) || int(src[n]) > n {
		return damagedError("a column of %d values has %d bytes", len(dst), len(src))
	}
	var low T
	for i, b := range src[:n] {
		low |= T(b) << (8 * i)
	}
	size, src := src[n], src[n+1:]
	switch size {
	case 0:
		for i := range dst {
			dst[i] = low
		}
	case 1:
		src = src[:len(dst)]
		for i := range dst {
			dst[i] = low + T(src[i])
		}
	case 2:
		for i := range dst {
			dst[i] = low + T(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case 4:
		for i := range dst {
			dst[i] = low + T(binary.LittleEndian.Uint32(src[4*i:]))
		}
	default:
		return damagedError("a column has numbers of %d bytes", size)
	}
	return nil
}

// appendPlanes appends the planes of values, at most blockRows of them.
func appendPlanes[T unsigned](dst []byte, values []T) []byte {
	var any, all T = 0, ^T(0)
	for _, v := range values {
		any |= v
		all &= v
	}
	at := len(dst)
	dst = append(dst, 0)
	for p := range planeCount[T]() {
		if shift := 8 * p; byte((any&^all)>>shift) != 0 {
			dst[at] |= 1 << p
		} else {
			dst = append(dst, byte(any>>shift))
		}
	}
	for p := range planeCount[T]() {
		if shift := 8 * p; dst[at]&(1<<p) != 0 {
			for _, v := range values {
				dst = append(dst, byte(v>>shift))
			}
		}
	}
	return dst
}

// readPlanes reads len(dst) values from src into dst and returns what follows them.
func readPlanes[T unsigned](src []byte, dst []T) ([]byte, error) {
	var constant T
	if len(src) == 0 {
		return nil, damagedError("a column ends early")
	}
	varies := src[0]
	src = src[1:]
	for p := range planeCount[T]() {
		if varies&(1<<p) == 0 {
			if len(src) == 0 {
				return nil, damagedError("a column ends early")
			}
			constant |= T(src[0]) << (8 * p)
			src = src[1:]
		}
	}
	for i := range dst {
		dst[i] = constant
	}
	for p := range planeCount[T]() {
		if varies&(1<<p) == 0 {
			continue
		}
		if len(src) < len(dst) {
			return nil, damagedError("a column ends early")
		}
		shift := 8 * p
		for i, b := range src[:len(dst)] {
			dst[i] |= T(b) << shift
		}
		src = src[len(dst):]
	}
	return src, nil
}

// appendTimes appends times, which must be in order.
func (e *encoder) appendTimes(dst []byte, times []int64) []byte {
	diffs := e.scratch[:len(times)]
	previous := times[0]
	for i, t := range times {
		diffs[i] = uint64(t - previous)
		previous = t
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(times[0]))
	return appendScaled(dst, diffs)
}

// appendScaled appends values after their unit. It changes values.
func appendScaled(dst []byte, values []uint64) []byte {
	unit := uint64(1000)
	for _, v := range values {
		if v%1000 != 0 {
			unit = 1
			break
		}
	}
	if unit > 1 {
		for i := range values {
			values[i] /= unit
		}
	}
	return appendPlanes(binary.LittleEndian.AppendUint16(dst, uint16(unit)), values)
}

// readTimes reads what appendTimes wrote; scratch is as long as dst at least.
func readTimes(src []byte, dst []int64, scratch []uint64) ([]byte, error) {
	if len(src) < 8 {
		return nil, damagedError("a column ends early")
	}
	at := int64(binary.LittleEndian.Uint64(src))
	diffs := scratch[:len(dst)]
	src, err := readScaled(src[8:], diffs)
	for i, v := range diffs {
		at += int64(v)
		dst[i] = at
	}
	return src, err
}

func readScaled(src []byte, dst []uint64) ([]byte, error) {
	if len(src) < 2 {
		return nil, damagedError("a column ends early")
	}
	unit := uint64(binary.LittleEndian.Uint16(src))
	src, err := readPlanes(src[2:], dst)
	if unit != 1 {
		for i := range dst {
			dst[i] *= unit
		}
	}
	return src, err
}

// decoder decompresses parts; one goroutine uses it at a time.
type decoder struct {
	zstd *zstd.Decoder
	body []byte
}

func newDecoder() (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPart))
	return &decoder{zstd: z}, err
}

// unpack decompresses a part's columns; the result is valid until the next
// call.
func (d *decoder) unpack(src []byte) ([]byte, error) {
	body, err := d.zstd.DecodeAll(src, d.body[:0])
	if err != nil {
		return nil, damagedError("a block cannot be decompressed: %v", err)
	}
	d.body = body
	return body, nil
}
