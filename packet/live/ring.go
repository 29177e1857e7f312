//go:build linux

package live

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/packet/capture"
)

// Offsets of fields in a block and before a packet (linux/if_packet.h).
const (
	blockStatus, blockPackets, blockFirst = 8, 12, 16

	headerSize = unix.SizeofTpacket3Hdr
)

// Next returns the next packet, or ErrIdle if none arrived within most. The
// packet is valid until the next call.
func (r *Reader) Next(most time.Duration) (capture.Record, error) {
	for r.left == 0 {
		r.releaseBlock()
		if r.takeBlock() {
			continue
		}
		if err := r.waitFor(most); err != nil {
			return capture.Record{}, err
		}
		if !r.takeBlock() {
			return capture.Record{}, ErrIdle
		}
	}
	return r.readPacket()
}

func (r *Reader) currentBlock() []byte { return r.ring[r.block*blockSize:][:blockSize] }

// blockStatusWord is the word by which kernel and reader pass a block to each other.
func (r *Reader) blockStatusWord() *uint32 {
	return (*uint32)(unsafe.Pointer(&r.currentBlock()[blockStatus]))
}

// takeBlock starts reading the current block, if the kernel has delivered it.
func (r *Reader) takeBlock() bool {
	if atomic.LoadUint32(r.blockStatusWord())&unix.TP_STATUS_USER == 0 {
		return false
	}
	b := r.currentBlock()
	r.left = binary.NativeEndian.Uint32(b[blockPackets:])
	first := binary.NativeEndian.Uint32(b[blockFirst:])
	if r.next = b; first < blockSize {
		r.next = b[first:]
	}
	return true
}

// releaseBlock returns a block that was read to the kernel.
func (r *Reader) releaseBlock() {
	if r.next == nil {
		return
	}
	atomic.StoreUint32(r.blockStatusWord(), unix.TP_STATUS_KERNEL)
	r.block = (r.block + 1) % (len(r.ring) / blockSize)
	r.next = nil
}

// readPacket takes one packet from the current block.
func (r *Reader) readPacket() (capture.Record, error) {
	b := r.next
	r.left--
	if len(b) < headerSize {
		r.left = 0
		return capture.Record{}, fmt.Errorf("packets of %s: invalid data in the kernel's ring", r.name)
	}
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[0]))
	end := int(h.Mac) + int(h.Snaplen)
	if end > len(b) || int(h.Next_offset) > len(b) {
		r.left = 0
		return capture.Record{}, fmt.Errorf("packets of %s: invalid data in the kernel's ring", r.name)
	}
	r.number++
	rec := capture.Record{
		Number: r.number, Time: flow.Time(int64(h.Sec)*1e9 + int64(h.Nsec)), Link: r.link, Data: b[h.Mac:end], Wire: int(h.Len),
	}
	rec.Direction = r.directionOf(b)
	if h.Status&unix.TP_STATUS_VLAN_VALID != 0 {
		r.restoreTag(&rec, h)
	}
	r.next = b[h.Next_offset:]
	return rec, nil
}

// directionOf reads the link-layer address after a packet's header (packet(7),
// struct sockaddr_ll). On a mirror port the card receives both directions.
func (r *Reader) directionOf(b []byte) capture.PacketDirection {
	const packetType = headerSize + 10
	switch {
	case r.mirror || len(b) <= packetType:
		return capture.UnknownDirection
	case b[packetType] == unix.PACKET_OUTGOING:
		return capture.Sent
	}
	return capture.Received
}

// restoreTag restores a VLAN tag between the addresses and the EtherType.
func (r *Reader) restoreTag(rec *capture.Record, h *unix.Tpacket3Hdr) {
	const addresses = 12
	if len(rec.Data) < addresses {
		return
	}
	kind := uint16(unix.ETH_P_8021Q)
	if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		kind = h.Hv1.Vlan_tpid
	}
	f := append(r.frame[:0], rec.Data[:addresses]...)
	f = binary.BigEndian.AppendUint16(f, kind)
	f = binary.BigEndian.AppendUint16(f, uint16(h.Hv1.Vlan_tci))
	r.frame = append(f, rec.Data[addresses:]...)
	rec.Data, rec.Wire = r.frame, rec.Wire+4
}
