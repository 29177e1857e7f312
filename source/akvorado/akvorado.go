// Package akvorado reads the messages that the inlet of Akvorado, from version 2.0
// on, writes to a topic: each is one datagram of an exporter as it came, with the
// address that it came from (RawFlow, in Protocol Buffers). NetFlow and sFlow
// decode the datagram.
package akvorado

import (
	"errors"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"dragnet/flow"
	"dragnet/internal/protofields"
)

// Numbers of the fields of RawFlow that are read.
const (
	timeReceived  protowire.Number = 1
	payload       protowire.Number = 2
	sourceAddress protowire.Number = 3
	decoder       protowire.Number = 5
	decapsulation protowire.Number = 7
)

// Reasons why a message is not a datagram. They are bare, so that a flood of bad
// messages costs no memory.
var (
	ErrTruncated = protofields.ErrTruncated
	ErrAddress   = errors.New("the source's address is missing, or has neither 4 nor 16 bytes")
	ErrTime      = errors.New("impossible time")
	ErrSize      = errors.New("the datagram is empty, or longer than UDP carries")
	ErrDecoder   = errors.New("neither a datagram of NetFlow nor of sFlow, or one whose flows are to be decapsulated")
)

// Decoder says what a datagram is of.
type Decoder uint64

// The decoders that Akvorado names; a gob is for its own tests.
const (
	Unspecified Decoder = iota
	NetFlow
	SFlow
	gob
)

// Datagram is one as Akvorado received it.
type Datagram struct {
	// Received has the resolution of a second.
	Received flow.Time
	// Data is a part of the message.
	Data    []byte
	From    netip.Addr
	Decoder Decoder
}

const (
	// latest bounds times, in seconds since 1970: the year 2242.
	latest = 1 << 33
	// longest bounds the length of a datagram.
	longest = 1<<16 - 1
)

// Parse reads one message.
func Parse(b []byte) (d Datagram, err error) {
	var at, decapsulated uint64
	ok := true
	err = protofields.Each(b, func(number protowire.Number, v uint64) error {
		switch number {
		case timeReceived:
			at = v
		case decoder:
			d.Decoder = Decoder(v)
		case decapsulation:
			decapsulated = v
		}
		return nil
	}, func(number protowire.Number, v []byte) error {
		switch number {
		case payload:
			d.Data = v
		case sourceAddress:
			d.From, ok = protofields.Address(v)
		}
		return nil
	})
	if err != nil {
		return d, err
	}
	d.Received = flow.Time(min(at, latest)) * 1e9
	switch {
	case !ok || !d.From.IsValid():
		return d, ErrAddress
	case at == 0 || at > latest:
		return d, ErrTime
	case len(d.Data) == 0 || len(d.Data) > longest:
		return d, ErrSize
	case d.Decoder >= gob || decapsulated != 0:
		return d, ErrDecoder
	}
	return d, nil
}
