package openflow

import (
	"encoding/binary"
	"fmt"
)

// Bundles as an extension to 1.3 (ONF EXT-230).
const (
	onf       = 0x4f4e4600
	onfBundle = 2300
	onfAdd    = 2301
)

// BundleStep is the type of a message that controls a bundle.
type BundleStep uint16

// The requests; each reply is the next number.
const (
	OpenBundle    BundleStep = 0
	CommitBundle  BundleStep = 4
	DiscardBundle BundleStep = 6
)

// atomicOrdered: all changes or none, in the order given.
const atomicOrdered = 1 | 2

// BundleBody is the body of an experimenter message that controls bundle id.
func BundleBody(id uint32, step BundleStep) []byte {
	b := binary.BigEndian.AppendUint32(nil, onf)
	b = binary.BigEndian.AppendUint32(b, onfBundle)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(step))
	return binary.BigEndian.AppendUint16(b, atomicOrdered)
}

// BundledBody puts a message into bundle id. The message that carries it must
// have the same transaction.
func BundledBody(id uint32, m Message) []byte {
	b := binary.BigEndian.AppendUint32(nil, onf)
	b = binary.BigEndian.AppendUint32(b, onfAdd)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, atomicOrdered)
	return m.Append(b)
}

// ParseBundle reads the reply to a message that controls a bundle.
func ParseBundle(body []byte) (id uint32, answered BundleStep, err error) {
	if len(body) < 16 || binary.BigEndian.Uint32(body) != onf || binary.BigEndian.Uint32(body[4:]) != onfBundle {
		return 0, 0, fmt.Errorf("bundle reply: %w", ErrTruncated)
	}
	return binary.BigEndian.Uint32(body[8:]), BundleStep(binary.BigEndian.Uint16(body[12:])) - 1, nil
}
