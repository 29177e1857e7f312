package token

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Kinds of frames.
const (
	recordFrame     = 1 // the record of a token
	previousFrame   = 2 // answers of previous hosts, for an earlier token
	checkpointFrame = 3 // a signature over the chain up to here
	gapFrame        = 4 // frames that were removed to make room
)

// frame is one entry of a segment. On disk: u32 length of the rest, u8 kind,
// u64 number, i64 time in ns, u32 account, then by kind
//
//	record      commitment, salt, u8 encoding, data
//	previous    commitment, salt, token it belongs to, u8 encoding, data
//	checkpoint  link, signature
//	gap         u64 last number, link before, link after, signature
//
// in big-endian order. Kinds with the bit grouped have a u32 group after the account.
type frame struct {
	kind    byte
	number  uint64 // of records and previous frames, from 1; of others, the last one before
	time    int64
	account uint32
	group   uint32 // who asked; 0 in frames of earlier versions
	commit  Hash
	salt    Hash
	of      Hash // previous: the token
	coding  byte
	data    []byte

	last          uint64 // gap: number is the first
	before, after Hash   // checkpoint: after only
	signature     []byte

	size int // on disk
}

const (
	fixedSize = 1 + 8 + 8 + 4
	groupSize = 4
	grouped   = 0x10
	// maxFrame bounds what a damaged length can make us read.
	maxFrame = maxRecord + 4*Size + fixedSize + groupSize
)

// Accounts of no user.
const (
	// NoUser owns the records of requests without an owner.
	NoUser uint32 = 1<<32 - 1
)

func (f *frame) holdsData() bool { return f.kind == recordFrame || f.kind == previousFrame }

func (f *frame) tokenOf() Hash {
	if f.kind == previousFrame {
		return f.of
	}
	return f.commit
}

// nextLink is the link of the chain after f.
func (f *frame) nextLink(before Hash) Hash {
	switch f.kind {
	case checkpointFrame:
		return before
	case gapFrame:
		return f.after
	}
	d := sha256.New()
	d.Write(before[:])
	d.Write(f.appendHead(nil))
	d.Write(f.commit[:])
	d.Write(f.of[:])
	var h Hash
	d.Sum(h[:0])
	return h
}

func (f *frame) appendHead(b []byte) []byte {
	kind := f.kind
	if f.group != 0 {
		kind |= grouped
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint64(b, f.number)
	b = binary.BigEndian.AppendUint64(b, uint64(f.time))
	b = binary.BigEndian.AppendUint32(b, f.account)
	if f.group != 0 {
		b = binary.BigEndian.AppendUint32(b, f.group)
	}
	return b
}

// appendTo appends f as it is on disk and sets its size.
func (f *frame) appendTo(b []byte) []byte {
	start := len(b)
	b = f.appendHead(append(b, 0, 0, 0, 0))
	switch f.kind {
	case recordFrame, previousFrame:
		b = append(append(b, f.commit[:]...), f.salt[:]...)
		if f.kind == previousFrame {
			b = append(b, f.of[:]...)
		}
		b = append(append(b, f.coding), f.data...)
	case checkpointFrame:
		b = append(append(b, f.after[:]...), f.signature...)
	case gapFrame:
		b = binary.BigEndian.AppendUint64(b, f.last)
		b = append(append(append(b, f.before[:]...), f.after[:]...), f.signature...)
	}
	f.size = len(b) - start
	binary.BigEndian.PutUint32(b[start:], uint32(f.size-4))
	return b
}

// errTorn means that the file ends within a frame: a write that was cut off.
var errTorn = errors.New("incomplete frame")

// readFrame reads the next frame; io.EOF at the end.
func readFrame(r *bufio.Reader) (*frame, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, errTorn
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < fixedSize || n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, errTorn
	}
	return decodeFrame(b)
}

func decodeFrame(b []byte) (*frame, error) {
	f := &frame{
		kind: b[0] &^ grouped, number: binary.BigEndian.Uint64(b[1:]), time: int64(binary.BigEndian.Uint64(b[9:])),
		account: binary.BigEndian.Uint32(b[17:]), size: len(b) + 4,
	}
	isGrouped := b[0]&grouped != 0
	b = b[fixedSize:]
	if isGrouped {
		if len(b) < groupSize {
			return nil, fmt.Errorf("frame of kind %d with %d bytes", f.kind, len(b))
		}
		f.group = binary.BigEndian.Uint32(b)
		b = b[groupSize:]
		if f.group == 0 || !f.holdsData() {
			return nil, fmt.Errorf("frame of kind %d with group %d", f.kind, f.group)
		}
	}
	need := map[byte]int{
		recordFrame: 2*Size + 1, previousFrame: 3*Size + 1,
		checkpointFrame: Size + ed25519.SignatureSize, gapFrame: 8 + 2*Size + ed25519.SignatureSize,
	}[f.kind]
	if need == 0 || len(b) < need {
		return nil, fmt.Errorf("frame of kind %d with %d bytes", f.kind, len(b))
	}
	take := func(h *Hash) { b = b[copy(h[:], b):] }
	switch f.kind {
	case recordFrame, previousFrame:
		take(&f.commit)
		take(&f.salt)
		if f.kind == previousFrame {
			take(&f.of)
		}
		f.coding, f.data = b[0], b[1:]
	case checkpointFrame:
		take(&f.after)
		f.signature = b
	case gapFrame:
		f.last = binary.BigEndian.Uint64(b)
		b = b[8:]
		take(&f.before)
		take(&f.after)
		f.signature = b
	}
	return f, nil
}

// signedBytes is what a checkpoint or a gap signs.
func (f *frame) signedBytes() []byte {
	b := []byte("dragnet ident store 1\n")
	b = f.appendHead(b)
	b = binary.BigEndian.AppendUint64(b, f.last)
	return append(append(b, f.before[:]...), f.after[:]...)
}

// checkBody is the record, checked against its commitment.
func (f *frame) checkBody() ([]byte, error) {
	b, err := expandRecord(f.coding, f.data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAltered, err)
	}
	if Commit(f.salt, b) != f.commit {
		return nil, ErrAltered
	}
	return b, nil
}

// ErrAltered means that a record does not match its token.
var ErrAltered = errors.New("the record was changed after its token was given")

func (f *frame) timeUTC() time.Time { return time.Unix(0, f.time).UTC() }
