package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// answeredName are the names of the sets of services that answered lately.
var answeredName = [2]string{"answered4", "answered6"}

// Services adds and removes services to which held sources may open connections.
// Those to remove must be there.
func (r *Router) Services(add, remove []netip.AddrPort) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	if err := r.ensureTable(); err != nil {
		return err
	}
	for i, set := range r.held.services {
		for all, change := range map[*[]netip.AddrPort]func(*nftables.Set, []nftables.SetElement) error{
			&add: r.conn.SetAddElements, &remove: r.conn.SetDeleteElements,
		} {
			var elements []nftables.SetElement
			for _, s := range *all {
				if s.Addr().Is6() == (i == 1) {
					elements = append(elements, nftables.SetElement{Key: serviceKey(s)})
				}
			}
			if err := queueElements(change, set, elements); err != nil {
				return err
			}
		}
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: change the services that answered in table inet %s: %w", tableName, err)
	}
	return nil
}

// serviceKey is an address and a port, each padded to four octets.
func serviceKey(s netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(s.Addr().AsSlice(), s.Port()), 0, 0)
}

// matchService is "ip daddr . tcp dport @set".
func matchService(set *nftables.Set, v6 bool) []expr.Any {
	family, length, offset := byte(unix.NFPROTO_IPV4), uint32(4), uint32(16)
	if v6 {
		family, length, offset = unix.NFPROTO_IPV6, 16, 24
	}
	return append(append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}, isTCP(expr.CmpOpEq)...),
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + length/4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set.Name, SetID: set.ID})
}

// ClearServices removes all services, such as those of an earlier run.
func (r *Router) ClearServices() error {
	if err := r.ensureTable(); err != nil {
		return err
	}
	for _, set := range r.held.services {
		r.conn.FlushSet(set)
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: clear the services that answered in table inet %s: %w", tableName, err)
	}
	return nil
}
