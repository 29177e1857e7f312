// Package protofields walks through the fields of a message of Protocol Buffers
// that comes from outside, without generated code and without memory of its size:
// every length is checked, and what is not asked for is passed over.
package protofields

import (
	"errors"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrTruncated says that a message ends inside a field. It is bare, so that a flood
// of bad messages costs no memory.
var ErrTruncated = errors.New("the message ends inside a field")

// Each hands the fields of a message to number (varints) and bytes (what has a
// length, which stays a part of b) in their order, until one returns an error. Fields
// of other kinds are passed over.
func Each(b []byte, number func(protowire.Number, uint64) error, bytes func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ErrTruncated
		}
		b = b[n:]
		var err error
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				err = number(field, v)
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				err = bytes(field, v)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return ErrTruncated
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Address is an address of 4 or 16 bytes; one of IPv4 within IPv6 is of IPv4.
func Address(b []byte) (a netip.Addr, ok bool) {
	a, ok = netip.AddrFromSlice(b)
	return a.Unmap(), ok
}
