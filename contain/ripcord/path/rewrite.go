package path

import (
	"encoding/binary"

	"dragnet/contain/ripcord/tables"
)

// putWord writes a word and updates the checksum at sum (RFC 1624, equation 3);
// odd is for a word at an odd offset of the summed data.
func (f *frame) putWord(at int, is uint32, sum int, odd bool) {
	was := f.u32(at)
	binary.BigEndian.PutUint32(f.b[at:], is)
	was = ^was
	if odd {
		was, is = was<<8|was>>24, is<<8|is>>24
	}
	f.addToSum(sum, uint64(was)+uint64(is))
}

// addToSum adds a difference to the checksum at sum.
func (f *frame) addToSum(sum int, difference uint64) {
	total := difference + uint64(^f.u16(sum))
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	binary.BigEndian.PutUint16(f.b[sum:], ^uint16(total))
}

// shift is what is added to the sequence number, to the acknowledgement and to
// the edges of selective acknowledgements, and what a Fast Open cookie is masked
// with; 0 leaves it.
type shift struct {
	seq, ack, edge uint32
	mask           uint64
}

func (f *frame) shiftSegment(by shift, o *options) {
	sum := f.l4 + 16
	f.putWord(f.l4+4, f.u32(f.l4+4)+by.seq, sum, false)
	if f.b[f.l4+13]&flagACK != 0 {
		f.putWord(f.l4+8, f.u32(f.l4+8)+by.ack, sum, false)
	}
	for i := 0; i < o.sackLen; i += 4 {
		at := f.l4 + 20 + o.sack + i
		f.putWord(at, f.u32(at)+by.edge, sum, o.sack%2 == 1)
	}
	if by.mask != 0 {
		at := f.l4 + 20 + o.cookie
		f.putWord(at, f.u32(at)^uint32(by.mask>>32), sum, o.cookie%2 == 1)
		f.putWord(at+4, f.u32(at+4)^uint32(by.mask), sum, o.cookie%2 == 1)
	}
}

// carriesQuote reports whether an ICMP message carries the start of a packet.
func (f *frame) carriesQuote() bool {
	switch f.proto {
	case protoICMP:
		return f.typ == 3 || f.typ == 4 || f.typ == 5 || f.typ == 11 || f.typ == 12
	case protoICMP6:
		return f.typ < 128 || f.typ == 137
	}
	return false
}

// shiftQuote shifts the numbers of a quoted segment back, which went the other
// way. A quote that names no connection of ours is left alone, and so is the
// checksum inside the quote, which cannot be checked on a part. One that holds a
// part of a number, or a granted cookie, is dropped: it would tell the host what
// only its peer knows.
func (p *Path) shiftQuote(f *frame, side tables.Side) tables.Reason {
	switch {
	case f.piece == later || f.len < 8:
		return passReason(side)
	case f.piece == first:
		return tables.Unshifted
	}
	at, have, why := f.findQuote()
	if why > tables.PassedIn {
		return why
	}
	q := frame{b: f.b, l3: at}
	if at == 0 || !q.parseQuote(have, f.proto == protoICMP) || q.len <= 4 {
		return passReason(side)
	}
	if q.len < 8 {
		return tables.Unshifted
	}
	q.sport, q.dport = q.u16(q.l4), q.u16(q.l4+2)
	// From the network comes back what the host sent.
	host, peer := q.hostAndPeer(1 - side)
	c := p.Conns[tables.Ends{Host: host, Peer: peer}]
	if c == nil || c.In|c.Out == 0 {
		return passReason(side)
	}
	seq, ack := -c.Out, c.In
	if side == tables.Out {
		seq, ack = -c.In, c.Out
	}
	sum := f.l4 + 2
	if q.len > 8 {
		if q.len < 14 {
			return tables.Unshifted
		}
		flags := f.b[q.l4+13]
		if flags&(flagSYN|flagACK) == flagSYN|flagACK && q.len > 20 {
			return tables.Unshifted
		}
		if flags&flagACK != 0 {
			f.putWord(q.l4+8, f.u32(q.l4+8)+ack, sum, false)
		}
	}
	f.putWord(q.l4+4, f.u32(q.l4+4)+seq, sum, false)
	p.count(tables.Quoted)
	return passReason(side)
}
