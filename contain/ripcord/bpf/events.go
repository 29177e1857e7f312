//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"dragnet/contain/ripcord/tables"
)

// eventSize is that of struct event in maps.h.
const eventSize = 8 + 4 + 4 + 16 + 16 + 2 + 2 + 4 + 8

func parseEvent(b []byte) (e tables.PacketEvent, ns uint64, err error) {
	if len(b) < eventSize {
		return e, 0, fmt.Errorf("event of %d octets, want %d: the programs are of another version", len(b), eventSize)
	}
	n := binary.NativeEndian
	e = tables.PacketEvent{
		Seq: n.Uint32(b[8:]), Ack: n.Uint32(b[12:]),
		Host:   netip.AddrPortFrom(unmapAddr([16]byte(b[16:])), n.Uint16(b[48:])),
		Peer:   netip.AddrPortFrom(unmapAddr([16]byte(b[32:])), n.Uint16(b[50:])),
		Reason: tables.Reason(b[52]), Side: tables.Side(b[53]), Proto: b[54], Observed: b[55] != 0,
		Len: n.Uint32(b[56:]),
	}
	return e, n.Uint64(b), nil
}

// Events reads the events of the programs.
type Events struct{ ring *ringbuf.Reader }

// Events opens the stream of events; one reader only.
func (w *Wire) Events() (*Events, error) {
	r, err := ringbuf.NewReader(w.objects.Events)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return &Events{r}, nil
}

// Drain calls see for each pending event, with its time in nanoseconds since
// boot, and returns when none is left. Poll it: the programs wake no reader, so
// that a flood of events costs no more than the reader spends.
func (e *Events) Drain(see func(ev tables.PacketEvent, ns uint64)) error {
	e.ring.SetDeadline(time.Unix(1, 0)) // do not wait
	var r ringbuf.Record
	for {
		err := e.ring.ReadInto(&r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		ev, ns, err := parseEvent(r.RawSample)
		if err != nil {
			return err
		}
		see(ev, ns)
	}
}

// Close ends the stream.
func (e *Events) Close() error { return e.ring.Close() }

// Frame is a captured frame addressed to the gateway itself, from the network.
type Frame struct {
	// Data starts with the Ethernet header, without a tag that the card removed.
	Data []byte
}

// Frames reads frames for the gateway.
type Frames struct{ ring *ringbuf.Reader }

// Frames opens the stream of frames; one reader only.
func (w *Wire) Frames() (*Frames, error) {
	r, err := ringbuf.NewReader(w.objects.Frames)
	if err != nil {
		return nil, fmt.Errorf("read frames for the gateway: %w", err)
	}
	return &Frames{r}, nil
}

// Read waits for a frame; it fails with os.ErrClosed after Close.
func (l *Frames) Read() (Frame, error) {
	r, err := l.ring.Read()
	if err != nil {
		return Frame{}, err
	}
	b := r.RawSample
	n := int(binary.NativeEndian.Uint32(b))
	if len(b) < 8+n {
		return Frame{}, fmt.Errorf("frame of %d octets in a record of %d", n, len(b))
	}
	return Frame{Data: b[8 : 8+n]}, nil
}

// Close ends the stream.
func (l *Frames) Close() error { return l.ring.Close() }
