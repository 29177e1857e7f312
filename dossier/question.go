// Package dossier defines the documents exchanged between packages and between
// organisations: one file per noun. A type belongs here only if two rooms
// exchange it.
package dossier

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Mode is the source of the secret under which an answer is sealed.
type Mode uint8

// OPRF: from the tuple through the witness's own oblivious pseudorandom
// function (RFC 9497), so that every guess costs an evaluation the witness
// counts. Paper: from the tuple alone, as published, by a memory-hard function.
const (
	OPRF Mode = iota + 1
	Paper
)

// String is the name used by the flag --mode.
func (m Mode) String() string {
	switch m {
	case OPRF:
		return "oprf"
	case Paper:
		return "paper"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// Question is what a detective sends to witnesses. It shows which components
// are asked about, never their values: those are hidden in the keys, which are
// ambiguous, and the blinded elements, which are uniformly random.
type Question struct {
	Mode Mode
	Hash key.Hash
	// Epoch names the salts in use, by convention a UTC day.
	Epoch string
	// Window bounds the start times of the flows asked about.
	Window flow.Window
	// KDFMemory is the memory cost of a guess in Paper mode, in KiB; 0 in OPRF
	// mode.
	KDFMemory uint32
	// Reply is the detective's HPKE public key (RFC 9180, X25519).
	Reply []byte
	Clues []AskedClue
	// Branches are the alternatives to join at the witness: trees without Or
	// over Clues, each clue once at most. Empty if the detective joins: then each clue is answered
	// alone.
	Branches []*pattern.Node
}

// AskedClue is one clue with one mask.
type AskedClue struct {
	End   key.End
	Mask  key.Mask
	State pattern.StateFilter
	// Bounds travel in clear, as State does.
	Bounds pattern.Bounds
	// Standard is the catalogue number of a standard question; 0 if the mask
	// describes itself.
	Standard uint16
	Salt     key.Salt
	// Keys are alternatives, in ascending order of K so that their order
	// reveals nothing.
	Keys []AskedKey
}

// AskedKey is the key of one tuple.
type AskedKey struct {
	K key.K
	// Blinded is the tuple, blinded for the witness's OPRF; empty in Paper
	// mode.
	Blinded []byte
}

// Bounds of a question.
const (
	MaxQuestion    = 8 << 20 // bytes
	MaxAskedClues  = 64
	MinKDFMemory   = 8         // KiB, Argon2's own (RFC 9106, section 3.1)
	MaxKDFMemory   = 256 << 10 // KiB
	MaxEpoch       = 64        // bytes
	maxElement     = 256
	maxBranchNodes = 64
)

// A question has the lowest version that can express it, so that older programs
// answer what they know: version 2 has sets of states, bounds, Not and AtLeast.
const (
	firstVersion  = 1
	secondVersion = 2
)

func (q *Question) version() uint8 {
	for i := range q.Clues {
		if c := &q.Clues[i]; c.State > pattern.Failed || len(c.Bounds) > 0 {
			return secondVersion
		}
	}
	for _, b := range q.Branches {
		if k, _ := b.Quorum(); k > 0 || len(b.Negations()) > 0 {
			return secondVersion
		}
	}
	return firstVersion
}

var errTruncated = errors.New("truncated or malformed")

// MarshalBinary is the canonical form, over which ID is computed.
func (q *Question) MarshalBinary() ([]byte, error) {
	var b cryptobyte.Builder
	version := q.version()
	b.AddUint8(version)
	b.AddUint8(uint8(q.Mode))
	b.AddUint8(uint8(q.Hash.Kind))
	b.AddUint8(q.Hash.Bits)
	b.AddUint64(q.Hash.Modulus)
	addString(&b, q.Epoch)
	b.AddUint64(uint64(q.Window.From))
	b.AddUint64(uint64(q.Window.To))
	b.AddUint32(q.KDFMemory)
	addString(&b, string(q.Reply))
	b.AddUint16(uint16(len(q.Clues)))
	for i := range q.Clues {
		q.Clues[i].appendTo(&b, version)
	}
	b.AddUint16(uint16(len(q.Branches)))
	for _, n := range q.Branches {
		marshalBranch(&b, n)
	}
	return b.Bytes()
}

func (c *AskedClue) appendTo(b *cryptobyte.Builder, version uint8) {
	code := c.Mask.Code()
	b.AddUint8(uint8(c.End))
	b.AddBytes(code[:])
	if version == firstVersion {
		b.AddUint8(uint8(c.State))
	} else {
		b.AddUint16(uint16(c.State))
		b.AddUint8(uint8(len(c.Bounds)))
		for _, v := range c.Bounds {
			b.AddBytes([]byte{byte(v.Measure), byte(v.Least), byte(v.Most)})
		}
	}
	b.AddUint16(c.Standard)
	b.AddBytes(c.Salt[:])
	b.AddUint32(uint32(len(c.Keys)))
	for _, k := range c.Keys {
		b.AddUint64(uint64(k.K))
		addString(b, string(k.Blinded))
	}
}

// marshalBranch writes a tree in prefix order.
func marshalBranch(b *cryptobyte.Builder, n *pattern.Node) {
	b.AddUint8(uint8(n.Op))
	switch n.Op {
	case pattern.Leaf:
		b.AddUint16(uint16(n.Clue))
		return
	case pattern.Not:
		marshalBranch(b, n.Left)
		return
	case pattern.AtLeast:
		leaves := n.Left.Leaves()
		b.AddUint16(uint16(n.Count))
		b.AddUint16(uint16(len(leaves)))
		for _, clue := range leaves {
			b.AddUint16(uint16(clue))
		}
		return
	}
	b.AddUint64(uint64(n.Within))
	marshalBranch(b, n.Left)
	marshalBranch(b, n.Right)
}

// UnmarshalBinary reads and checks what MarshalBinary wrote; any other bytes
// are an error.
func (q *Question) UnmarshalBinary(data []byte) error {
	if len(data) > MaxQuestion {
		return fmt.Errorf("question: %d bytes; at most %d", len(data), MaxQuestion)
	}
	if err := q.readFrom(cryptobyte.String(data)); err != nil {
		return fmt.Errorf("question: %w", err)
	}
	return nil
}

func (q *Question) readFrom(s cryptobyte.String) error {
	var version, mode, kind uint8
	var from, to uint64
	var reply string
	var clues, branches uint16
	if !s.ReadUint8(&version) {
		return errTruncated
	}
	if version < firstVersion || version > secondVersion {
		return fmt.Errorf("version %d; this program supports versions %d to %d", version, firstVersion, secondVersion)
	}
	if !s.ReadUint8(&mode) || !s.ReadUint8(&kind) || !s.ReadUint8(&q.Hash.Bits) || !s.ReadUint64(&q.Hash.Modulus) ||
		!readString(&s, &q.Epoch, MaxEpoch) || !s.ReadUint64(&from) || !s.ReadUint64(&to) || !s.ReadUint32(&q.KDFMemory) ||
		!readString(&s, &reply, maxElement) || !s.ReadUint16(&clues) {
		return errTruncated
	}
	q.Mode, q.Hash.Kind, q.Reply = Mode(mode), key.Kind(kind), []byte(reply)
	q.Window = flow.Window{From: flow.Time(from), To: flow.Time(to)}
	if clues == 0 || clues > MaxAskedClues {
		return fmt.Errorf("%d clues; want 1..%d", clues, MaxAskedClues)
	}
	q.Clues = make([]AskedClue, clues)
	for i := range q.Clues {
		if err := q.Clues[i].readFrom(&s, version); err != nil {
			return fmt.Errorf("clue %d: %w", i, err)
		}
	}
	if !s.ReadUint16(&branches) || branches > pattern.MaxBranches {
		return errTruncated
	}
	q.Branches = nil
	for i := range branches {
		r := branchReader{clues: len(q.Clues)}
		n, err := r.read(&s)
		if err == nil {
			err = q.checkBranch(n, r.used)
		}
		if err != nil {
			return fmt.Errorf("branch %d: %w", i, err)
		}
		q.Branches = append(q.Branches, n)
	}
	if !s.Empty() {
		return fmt.Errorf("%d trailing bytes", len(s))
	}
	if version != q.version() {
		return fmt.Errorf("it is of version %d, and version %d expresses it", version, q.version())
	}
	return q.checkKeys()
}

func (q *Question) checkKeys() error {
	switch {
	case q.Mode != OPRF && q.Mode != Paper:
		return fmt.Errorf("unknown mode %d", q.Mode)
	case q.Mode == OPRF && q.KDFMemory != 0, q.Mode == Paper && (q.KDFMemory < MinKDFMemory || q.KDFMemory > MaxKDFMemory):
		return fmt.Errorf("KDF memory of %d KiB is not valid in mode %s", q.KDFMemory, q.Mode)
	}
	for i, c := range q.Clues {
		for j, k := range c.Keys {
			if (len(k.Blinded) == 0) != (q.Mode == Paper) {
				return fmt.Errorf("clue %d: blinded element is not valid in mode %s", i, q.Mode)
			}
			if j > 0 && c.Keys[j-1].K > k.K {
				return fmt.Errorf("clue %d: keys are not in ascending order", i)
			}
		}
	}
	return q.Hash.Validate()
}

func (c *AskedClue) readFrom(s *cryptobyte.String, version uint8) error {
	var end uint8
	var code [3]byte
	var keys uint32
	if !s.ReadUint8(&end) || !s.CopyBytes(code[:]) {
		return errTruncated
	}
	if err := c.readConditions(s, version); err != nil {
		return err
	}
	if !s.ReadUint16(&c.Standard) || !s.CopyBytes(c.Salt[:]) || !s.ReadUint32(&keys) {
		return errTruncated
	}
	mask, err := key.MaskFromCode(code)
	if err != nil {
		return err
	}
	c.End, c.Mask = key.End(end), mask
	switch {
	case c.End > key.Out:
		return errTruncated
	case c.Standard != 0 && c.Standard != key.StandardID(c.End, c.Mask):
		return fmt.Errorf("mask %s is not standard question %d", c.Mask, c.Standard)
	case keys == 0 || keys > pattern.MaxTuples || int(keys) > len(*s)/9:
		return errTruncated
	}
	c.Keys = make([]AskedKey, keys)
	for i := range c.Keys {
		var k uint64
		var blinded string
		if !s.ReadUint64(&k) || !readString(s, &blinded, maxElement) {
			return errTruncated
		}
		c.Keys[i] = AskedKey{K: key.K(k), Blinded: []byte(blinded)}
	}
	return nil
}

// readConditions reads what travels in clear.
func (c *AskedClue) readConditions(s *cryptobyte.String, version uint8) error {
	c.Bounds = nil
	if version == firstVersion {
		var state uint8
		if !s.ReadUint8(&state) || state > uint8(pattern.Failed) {
			return errTruncated
		}
		c.State = pattern.StateFilter(state)
		return nil
	}
	var state uint16
	var n uint8
	if !s.ReadUint16(&state) || !s.ReadUint8(&n) {
		return errTruncated
	}
	c.State = pattern.StateFilter(state)
	for range n {
		var v [3]byte
		if !s.CopyBytes(v[:]) {
			return errTruncated
		}
		c.Bounds = append(c.Bounds, pattern.Bound{Measure: pattern.Measure(v[0]), Least: pattern.BoundStep(v[1]), Most: pattern.BoundStep(v[2])})
	}
	if err := c.State.Validate(); err != nil {
		return err
	}
	return c.Bounds.Validate()
}

// branchReader reads one branch.
type branchReader struct {
	clues, nodes int
	used         []int // clues
}

func (r *branchReader) read(s *cryptobyte.String) (*pattern.Node, error) {
	var op uint8
	if r.nodes++; r.nodes > maxBranchNodes || !s.ReadUint8(&op) {
		return nil, errTruncated
	}
	n := &pattern.Node{Op: pattern.Op(op)}
	var err error
	switch n.Op {
	case pattern.Leaf:
		return r.readLeaf(s)
	case pattern.Not:
		var leaf uint8
		if !s.ReadUint8(&leaf) || pattern.Op(leaf) != pattern.Leaf {
			return nil, errors.New("not negates a clue")
		}
		n.Left, err = r.readLeaf(s)
		return n, err
	case pattern.AtLeast:
		return n, r.readQuorum(s, n)
	case pattern.And, pattern.Then:
		var within uint64
		if !s.ReadUint64(&within) || within > uint64(pattern.MaxWithin) {
			return nil, errTruncated
		}
		n.Within = time.Duration(within)
	default:
		return nil, fmt.Errorf("operator %s in a branch", n.Op)
	}
	if n.Left, err = r.read(s); err != nil {
		return nil, err
	}
	n.Right, err = r.read(s)
	return n, err
}

func (r *branchReader) readLeaf(s *cryptobyte.String) (*pattern.Node, error) {
	var clue uint16
	if !s.ReadUint16(&clue) || int(clue) >= r.clues {
		return nil, errTruncated
	}
	r.used = append(r.used, int(clue))
	return &pattern.Node{Op: pattern.Leaf, Clue: int(clue)}, nil
}

func (r *branchReader) readQuorum(s *cryptobyte.String, n *pattern.Node) error {
	var count, leaves uint16
	if !s.ReadUint16(&count) || !s.ReadUint16(&leaves) || count < 2 || count > pattern.MaxAtLeast || leaves == 0 || leaves > MaxAskedClues {
		return errTruncated
	}
	n.Count = int(count)
	for range leaves {
		leaf, err := r.readLeaf(s)
		switch {
		case err != nil:
			return err
		case n.Left == nil:
			n.Left = leaf
		default:
			n.Left = &pattern.Node{Op: pattern.Or, Left: n.Left, Right: leaf}
		}
	}
	return nil
}

// checkBranch checks the places of clues in a branch that was read.
func (q *Question) checkBranch(n *pattern.Node, used []int) error {
	if err := pattern.CheckBranch(n); err != nil {
		return err
	}
	slices.Sort(used)
	if len(slices.Compact(slices.Clone(used))) != len(used) {
		return errors.New("a clue occurs twice")
	}
	for _, v := range n.Negations() {
		if v.Timed && len(q.Clues[v.Clue].Keys) != 1 {
			return errors.New("a clue negated in time has several keys")
		}
	}
	k, clues := n.Quorum()
	values := 0
	for _, c := range clues {
		values += len(q.Clues[c].Keys)
	}
	if k > values {
		return fmt.Errorf("%d of %d values", k, values)
	}
	return nil
}

// QuestionID identifies a question: SHA-256 of its canonical bytes.
type QuestionID [sha256.Size]byte

// IDOf is the ID of a marshalled question.
func IDOf(question []byte) QuestionID { return sha256.Sum256(question) }

func addString(b *cryptobyte.Builder, s string) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func readString(s *cryptobyte.String, out *string, limit int) bool {
	var inner cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&inner) || len(inner) > limit {
		return false
	}
	*out = string(inner)
	return true
}
