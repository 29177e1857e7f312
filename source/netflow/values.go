package netflow

import (
	"encoding/binary"
	"net/netip"
)

// values are the fields of one record that the decoder uses. They are reused
// from record to record, so that only what is in set counts.
type values struct {
	set      uint64 // bit u: numbers[u], or the address u, is of this record
	numbers  [64]uint64
	src, dst netip.Addr
	lists    uint64 // structured fields passed over, in all records
}

func (v *values) has(u use) bool { return v.set&(1<<u) != 0 }

// number is the value of a field, 0 if the record does not have it.
func (v *values) number(u use) uint64 {
	if !v.has(u) {
		return 0
	}
	return v.numbers[u]
}

// readRecord takes the next record from b. ok is false when b ends inside it.
func (v *values) readRecord(t *template, b []byte) (rest []byte, ok bool) {
	v.set = 0
	for i := range t.fields {
		f := &t.fields[i]
		n := int(f.length)
		if n == variableLength && t.variable {
			if n, b, ok = takeLength(b); !ok {
				return nil, false
			}
		}
		if n > len(b) {
			return nil, false
		}
		if f.use != ignored {
			v.putField(f.use, b[:n])
		}
		b = b[n:]
	}
	return b, true
}

// takeLength reads the length before a value: one octet, or 255 and two more
// (RFC 7011, section 7).
func takeLength(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) < 1:
		return 0, nil, false
	case b[0] < 255:
		return int(b[0]), b[1:], true
	case len(b) < 3:
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b[1:])), b[3:], true
}

// putField keeps a field. Numbers may be shorter than the registry says (RFC 7011,
// section 6.2); a value of impossible length counts as absent.
func (v *values) putField(u use, b []byte) {
	switch u {
	case srcAddr4, dstAddr4:
		if len(b) == 4 {
			v.putAddress(u == srcAddr4, netip.AddrFrom4([4]byte(b)), u)
		}
		return
	case srcAddr6, dstAddr6:
		if len(b) == 16 {
			v.putAddress(u == srcAddr6, netip.AddrFrom16([16]byte(b)).Unmap(), u)
		}
		return
	case structured:
		v.lists++
		return
	}
	var n uint64
	switch len(b) {
	case 0:
		return
	case 1:
		n = uint64(b[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(b))
	case 4:
		n = uint64(binary.BigEndian.Uint32(b))
	case 8:
		n = binary.BigEndian.Uint64(b)
	case 3, 5, 6, 7:
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
	default:
		return
	}
	v.numbers[u] = n
	v.set |= 1 << u
}

// putAddress keeps an address. Templates with both versions leave one of them
// zero.
func (v *values) putAddress(source bool, a netip.Addr, u use) {
	if a.IsUnspecified() && (source && v.src.IsValid() && v.hasSrc() || !source && v.dst.IsValid() && v.hasDst()) {
		return
	}
	if source {
		v.src = a
	} else {
		v.dst = a
	}
	v.set |= 1 << u
}

func (v *values) hasSrc() bool { return v.has(srcAddr4) || v.has(srcAddr6) }

func (v *values) hasDst() bool { return v.has(dstAddr4) || v.has(dstAddr6) }
