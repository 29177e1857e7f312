//go:build linux

package redirect

import (
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const aliveTime = 24 * time.Hour

func interfaceName(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

func onInterface(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(name)}}
}

func notOnInterface(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: interfaceName(name)}}
}

func isProto(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

func toPort(proto byte, port uint16) []expr.Any {
	return append(isProto(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
}

func toPorts(proto byte, ports []uint16) (all [][]expr.Any) {
	for _, p := range ports {
		all = append(all, toPort(proto, p))
	}
	return all
}

func isFamily(v6 bool) []expr.Any {
	family := byte(unix.NFPROTO_IPV4)
	if v6 {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}}}
}

// source and destination load an address into register 1, of packets of one
// family.
func source(v6 bool) []expr.Any { return address(v6, 12, 8) }

func destination(v6 bool) []expr.Any { return address(v6, 16, 24) }

func address(v6 bool, offset4, offset6 uint32) []expr.Any {
	p := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset4, Len: 4}
	if v6 {
		p.Offset, p.Len = offset6, 16
	}
	return append(isFamily(v6), p)
}

// inSet compares register 1 with a set.
func inSet(s *nftables.Set, not bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: not}}
}

// isReply matches what answers the opener of a connection.
func isReply() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

func isEstablished() []expr.Any { return hasState(expr.CtStateBitESTABLISHED) }

// isNew matches the first packet of a connection.
func isNew() []expr.Any { return hasState(expr.CtStateBitNEW) }

// over matches what comes above a rate, in packets a second.
func over(rate uint64) []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Burst: uint32(rate), Unit: expr.LimitTimeSecond, Over: true}}
}

func hasState(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// hasNoSource matches IPv6 packets whose source is "::".
func hasNoSource() []expr.Any {
	return append(source(true), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 16)})
}

// hasForgedSource matches packets whose source is not routed to the interface
// that they came in on.
func hasForgedSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

// hasSocket matches packets of a connection that a transparent socket has.
func hasSocket() []expr.Any {
	return []expr.Any{&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}}}
}

func setMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func tproxy(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	}
}

func dnat(to netip.Addr) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegAddrMax: 1},
	}
}

// isICMPEcho matches echo requests.
func isICMPEcho(v6 bool) []expr.Any {
	proto, kind := byte(unix.IPPROTO_ICMP), byte(8)
	if v6 {
		proto, kind = unix.IPPROTO_ICMPV6, 128
	}
	return append(isProto(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}})
}

// hasHopByHop matches IPv6 packets that begin with hop-by-hop options (RFC 8200,
// section 4.3: they come first or not at all).
func hasHopByHop() []expr.Any {
	return append(isFamily(true),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_HOPOPTS}})
}

// isNeighbourDiscovery matches RFC 4861, but for advertisements of
// routers and redirects, by which a honeypot could change where this machine sends.
// Its hop limit of 255 shows that it was not forwarded, and it has no extension
// headers, which could ask for an error to a forged source.
func isNeighbourDiscovery() []expr.Any {
	return append(append(isFamily(true),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 7, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{255}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}}), append(isProto(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{133}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{134}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{136}})...)
}

// share matches n of a thousand packets.
func share(n uint32) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: 1000, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(n)},
	}
}

func counter() []expr.Any { return []expr.Any{&expr.Counter{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
