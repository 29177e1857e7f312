//go:build linux

package redirect

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A honeypot's answers leave under unused addresses of ours, to any address that seems
// to have sent a request. An attacker who forges a victim's address must not have more
// sent to it than he sends himself. So each SYN lets one SYN and ACK out (a host would
// repeat it five times; it may have four bytes more, for the segment size), and each
// datagram one datagram of at most its length.

// answerWithin is how long after a request its answer may leave.
const answerWithin = time.Minute

// maxRequests bounds the requests that are remembered; beyond it none is answered.
const maxRequests = 1 << 16

// lengths are classes of datagrams, in bytes with the IP header: one lets an answer
// out that is no longer than its class's.
var lengths = []uint32{28, 40, 56, 72, 96, 128, 192, 256, 384, 512, 768, 1024, 1400}

// requestSets are the sets of one family.
type requestSets struct {
	v6        bool
	syns      *nftables.Set // that were answered: an address, its port, and ours
	datagrams *nftables.Set // that were not answered: the same, and a class
	classes   *nftables.Chain
}

// addRequestSets adds the sets of a family.
func (b *builder) addRequestSets(v6 bool) (*requestSets, error) {
	name, address := "4", nftables.TypeIPAddr
	if v6 {
		name, address = "6", nftables.TypeIP6Addr
	}
	ends := []nftables.SetDatatype{address, nftables.TypeInetService, nftables.TypeInetService}
	set := func(kind string, key ...nftables.SetDatatype) (*nftables.Set, error) {
		concatenated, err := nftables.ConcatSetType(key...)
		if err != nil {
			return nil, err
		}
		s := &nftables.Set{Table: b.table, Name: kind + name, KeyType: concatenated, Concatenation: true, HasTimeout: true, Dynamic: true, Size: maxRequests, Timeout: answerWithin}
		return s, b.conn.AddSet(s, nil)
	}
	syns, err := set("answered", ends...)
	if err != nil {
		return nil, err
	}
	datagrams, err := set("asked", append(ends, nftables.TypeMark)...)
	if err != nil {
		return nil, err
	}
	a := &requestSets{v6: v6, syns: syns, datagrams: datagrams}
	// Classes are in a separate chain, so that connections do not pass them.
	a.classes = b.conn.AddChain(&nftables.Chain{Name: datagrams.Name, Table: b.table})
	for class := len(lengths) - 1; class >= 0; class-- {
		b.rule(a.classes, hasLength(expr.CmpOpGte, lengths[class]), a.loadEnds(true), a.loadClass(class), change(datagrams, unix.NFT_DYNSET_OP_UPDATE), verdict(expr.VerdictReturn))
	}
	return a, nil
}

// firstWord is the first register of four bytes; keys of several fields lie in
// consecutive ones.
const firstWord = unix.NFT_REG32_00

// loadEnds loads the other end's address and port and our port: of the source of what
// comes in, of the destination of what goes out.
func (a *requestSets) loadEnds(in bool) []expr.Any {
	offset, length, words := uint32(12), uint32(4), uint32(1)
	if a.v6 {
		offset, length, words = 8, 16, 4
	}
	theirs, ours := uint32(0), uint32(2)
	if !in {
		offset, theirs, ours = offset+length, 2, 0
	}
	port := func(at, register uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2}
	}
	return append(isFamily(a.v6),
		&expr.Payload{DestRegister: firstWord, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		port(theirs, firstWord+words), port(ours, firstWord+words+1))
}

// loadClass loads a class of lengths behind the ends.
func (a *requestSets) loadClass(class int) []expr.Any {
	words := uint32(1)
	if a.v6 {
		words = 4
	}
	return []expr.Any{&expr.Immediate{Register: firstWord + words + 2, Data: binaryutil.NativeEndian.PutUint32(uint32(class))}}
}

// opDelete is NFT_DYNSET_OP_DELETE (linux/netfilter/nf_tables.h).
const opDelete = 2

func change(s *nftables.Set, operation uint32) []expr.Any {
	d := &expr.Dynset{SrcRegKey: firstWord, SetName: s.Name, SetID: s.ID, Operation: operation}
	if operation != opDelete {
		d.Timeout = answerWithin
	}
	return []expr.Any{d}
}

func isIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: firstWord, SetName: s.Name, SetID: s.ID}}
}

// hasFlags matches TCP segments of whose SYN, ACK and RST exactly these are set.
func hasFlags(flags byte) []expr.Any {
	return append(isProto(unix.IPPROTO_TCP), compareFlags(expr.CmpOpEq, flags)...)
}

// lacksFlags matches those of which others are set.
func lacksFlags(flags byte) []expr.Any { return compareFlags(expr.CmpOpNeq, flags) }

func compareFlags(op expr.CmpOp, flags byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x16}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{flags}},
	}
}

// hasLength compares the length of a packet, with its IP header.
func hasLength(op expr.CmpOp, n uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyLEN, Register: 1},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.BigEndian.PutUint32(n)},
	}
}

// noteRequests notes SYNs and such datagrams, which are for an address that honeypots
// answer for.
func (a *requestSets) noteRequests(b *builder, chain *nftables.Chain, datagrams ...[]expr.Any) {
	b.rule(chain, hasFlags(0x02), a.loadEnds(true), change(a.syns, opDelete))
	for _, d := range datagrams {
		b.rule(chain, d, jump(a.classes))
	}
}

// allowAnswers lets answers out as far as something came in for them, and drops
// other SYNs with ACK, and datagrams. FromHoneypot matches what honeypots answer.
func (a *requestSets) allowAnswers(b *builder, chain *nftables.Chain, fromHoneypot []expr.Any) {
	answers := b.conn.AddChain(&nftables.Chain{Name: a.syns.Name, Table: b.table})
	b.rule(chain, fromHoneypot, isFamily(a.v6), hasFlags(0x12), jump(answers))
	b.rule(chain, fromHoneypot, isFamily(a.v6), isProto(unix.IPPROTO_UDP), jump(answers))
	b.rule(answers, hasFlags(0x12), a.loadEnds(false), isIn(a.syns), counter(), verdict(expr.VerdictDrop))
	b.rule(answers, hasFlags(0x12), a.loadEnds(false), change(a.syns, unix.NFT_DYNSET_OP_UPDATE), verdict(expr.VerdictAccept))
	for class, most := range lengths {
		b.rule(answers, isProto(unix.IPPROTO_UDP), hasLength(expr.CmpOpLte, most), a.loadEnds(false), a.loadClass(class), isIn(a.datagrams),
			change(a.datagrams, opDelete), verdict(expr.VerdictAccept))
	}
	b.rule(answers, counter(), verdict(expr.VerdictDrop)) // also where there was no room for the request
}

func jump(to *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}
}
