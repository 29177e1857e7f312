// Package openflow encodes and decodes the part of OpenFlow 1.3 (ONF TS-006) that
// puts rules into a switch and reads them back: hello, echo, errors, barriers,
// flow_mod, meter_mod, multipart replies, and bundles, which make several changes
// one (ONF extension 230 for 1.3). What a switch sends is not trusted: lengths
// are checked, and what is not known is counted rather than guessed.
package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version13 is the wire number of OpenFlow 1.3.
const Version13 = 4

// Type is the type of a message (section A.1).
type Type uint8

// The types that are sent or understood.
const (
	Hello            Type = 0
	Error            Type = 1
	EchoRequest      Type = 2
	EchoReply        Type = 3
	Experimenter     Type = 4
	FeaturesRequest  Type = 5
	FeaturesReply    Type = 6
	FlowMod          Type = 14
	MultipartRequest Type = 18
	MultipartReply   Type = 19
	BarrierRequest   Type = 20
	BarrierReply     Type = 21
	MeterMod         Type = 29
)

// Message is one message; Body is what follows the header of 8 bytes.
type Message struct {
	Version uint8
	Type    Type
	XID     uint32
	Body    []byte
}

const headerLength = 8

// Reasons why bytes are no message.
var (
	// ErrTruncated marks messages that end inside what they announce.
	ErrTruncated = errors.New("the message is truncated")
	// ErrLength marks lengths that are less than the header they belong to.
	ErrLength = errors.New("impossible length")
)

// ReadMessage reads one message; its length of 16 bits bounds it.
func ReadMessage(r io.Reader) (Message, error) {
	var h [headerLength]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Message{}, err
	}
	m := Message{Version: h[0], Type: Type(h[1]), XID: binary.BigEndian.Uint32(h[4:])}
	length := int(binary.BigEndian.Uint16(h[2:]))
	if length < headerLength {
		return Message{}, fmt.Errorf("message of type %d: %w %d", m.Type, ErrLength, length)
	}
	m.Body = make([]byte, length-headerLength)
	if _, err := io.ReadFull(r, m.Body); err != nil {
		return Message{}, fmt.Errorf("message of type %d: %w", m.Type, ErrTruncated)
	}
	return m, nil
}

// Append encodes m. A body that a length of 16 bits cannot hold is a mistake of
// the caller.
func (m Message) Append(b []byte) []byte {
	if len(m.Body) > 1<<16-1-headerLength {
		panic("openflow: message too long")
	}
	b = append(b, m.Version, byte(m.Type))
	b = binary.BigEndian.AppendUint16(b, uint16(headerLength+len(m.Body)))
	b = binary.BigEndian.AppendUint32(b, m.XID)
	return append(b, m.Body...)
}

// HelloBody offers OpenFlow 1.3 only, in a bitmap of versions (section A.5.1).
func HelloBody() []byte { return []byte{0, 1, 0, 8, 0, 0, 0, 1 << Version13} }

// Offers13 reports whether a hello accepts OpenFlow 1.3: by its bitmap of
// versions, or, without one, by being of that version or a later one.
func Offers13(m Message) bool {
	for b := m.Body; len(b) >= 4; {
		kind, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			break
		}
		if kind == 1 && length >= 8 {
			return binary.BigEndian.Uint32(b[4:])>>Version13&1 != 0
		}
		b = b[min(len(b), (length+7)/8*8):]
	}
	return m.Version >= Version13
}

// Datapath is the identifier in a features reply.
func Datapath(body []byte) (uint64, error) {
	if len(body) < 24 {
		return 0, fmt.Errorf("features reply: %w", ErrTruncated)
	}
	return binary.BigEndian.Uint64(body), nil
}

// Multipart is the type of a multipart message.
type Multipart uint16

// The multipart types that are asked for.
const (
	FlowStats     Multipart = 1
	MeterConfig   Multipart = 10
	MeterFeatures Multipart = 11
	PortList      Multipart = 13
)

// MultipartBody is a request.
func MultipartBody(kind Multipart, request []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(kind))
	return append(append(b, 0, 0, 0, 0, 0, 0), request...)
}

// ParseMultipart takes a reply apart; more says that others follow with the same
// transaction.
func ParseMultipart(body []byte) (kind Multipart, more bool, reply []byte, err error) {
	if len(body) < 8 {
		return 0, false, nil, fmt.Errorf("multipart reply: %w", ErrTruncated)
	}
	return Multipart(binary.BigEndian.Uint16(body)), binary.BigEndian.Uint16(body[2:])&1 != 0, body[8:], nil
}
