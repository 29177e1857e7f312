package dossier

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// Testimony is what a witness returns: its coverage, the evaluations from which
// the asker derives keys, and sealed answers, of which the asker can open those
// whose tuples it already knows.
type Testimony struct {
	Question QuestionID
	// Witness is the name under which the witness answers.
	Witness string
	// Refusal is empty, or why there are no answers.
	Refusal Refusal
	// Coverage is what the witness could see; Problems are not sent.
	Coverage flow.Coverage
	// Evaluations holds, for each clue and each of its keys, the OPRF's
	// evaluation of the blinded element. Empty in Paper mode.
	Evaluations [][][]byte
	Answers     []SealedAnswer
}

// Refusal is why a witness does not answer.
type Refusal uint8

// The refusals.
const (
	Answered     Refusal = iota
	TooCommon            // the pattern matches too many flows to be useful
	TooAmbiguous         // the key is so short that the answers would exceed the witness's bound
	TooCostly            // the question needs more work than the witness allows

	// Only a witness with a policy for others returns the following.

	NotPermitted   // a kind of question the witness never answers
	TooSpecific    // the key leaves fewer candidates than the witness's floor
	OverBudget     // the asker, or all askers together, exceeded the budget
	AwaitingOthers // fewer independent detectives asked the same than the witness requires
	numRefusals
)

// String explains the refusal to the asker.
func (r Refusal) String() string {
	switch r {
	case Answered:
		return ""
	case TooCommon:
		return "too common"
	case TooAmbiguous:
		return "too ambiguous"
	case TooCostly:
		return "too costly"
	case NotPermitted:
		return "not permitted"
	case TooSpecific:
		return "too specific"
	case OverBudget:
		return "over budget"
	case AwaitingOthers:
		return "awaiting others"
	}
	return fmt.Sprintf("Refusal(%d)", uint8(r))
}

// SealedAnswer is the paper's R_i: the hosts that match one combination of
// tuples, readable only with those tuples.
type SealedAnswer struct {
	// Branch is the alternative that was joined, with the kind of answer
	// (AnswerNumber), or the clue if the detective joins.
	Branch uint16
	// Salt makes the encryption key of this answer unique.
	Salt [16]byte
	// Commitment commits to the key under which the answer opens. It is random
	// without that key, and the same in the answers of one group.
	Commitment [32]byte
	Ciphertext []byte
}

// AnswerNumber names an alternative and a kind of answer to it. Kind 0 names the hosts
// that match if nothing that is negated is seen. The others are sealed under values that
// are negated, too, and say what is left of that: the bits of kinds 1 to 15 name the
// clues negated in time, by their place among those; NegatedKind is one that is
// negated at any time.
func AnswerNumber(branch int, kind uint16) uint16 { return uint16(branch) | kind<<8 }

// NegatedKind is the kind of answers about the clue at place i of Negations.
func NegatedKind(i int) uint16 { return 1<<pattern.MaxThenNots + uint16(i) }

// Bounds of a testimony.
const (
	MaxTestimony = 512 << 20 // bytes
	MaxAnswers   = 1 << 20
	MaxAnswer    = 64 << 20
	maxName      = 255
)

const testimonyVersion = 1

// MarshalBinary is the form that is sealed to the asker.
func (t *Testimony) MarshalBinary() ([]byte, error) {
	if len(t.Witness) > maxName {
		return nil, fmt.Errorf("testimony: witness name longer than %d bytes", maxName)
	}
	var b cryptobyte.Builder
	b.AddUint8(testimonyVersion)
	b.AddBytes(t.Question[:])
	addString(&b, t.Witness)
	b.AddUint8(uint8(t.Refusal))
	b.AddUint64(t.Coverage.Flows)
	b.AddUint64(uint64(t.Coverage.From))
	b.AddUint64(uint64(t.Coverage.To))
	b.AddUint32(t.Coverage.Sampling)
	b.AddUint64(t.Coverage.Skipped)
	b.AddUint16(uint16(len(t.Evaluations)))
	for _, clue := range t.Evaluations {
		b.AddUint32(uint32(len(clue)))
		for _, e := range clue {
			addString(&b, string(e))
		}
	}
	b.AddUint32(uint32(len(t.Answers)))
	for i := range t.Answers {
		a := &t.Answers[i]
		b.AddUint16(a.Branch)
		b.AddBytes(a.Salt[:])
		b.AddBytes(a.Commitment[:])
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(a.Ciphertext) })
	}
	return b.Bytes()
}

// UnmarshalBinary reads and checks what MarshalBinary wrote.
func (t *Testimony) UnmarshalBinary(data []byte) error {
	if len(data) > MaxTestimony {
		return fmt.Errorf("testimony: %d bytes; at most %d", len(data), MaxTestimony)
	}
	if err := t.readFrom(cryptobyte.String(data)); err != nil {
		return fmt.Errorf("testimony: %w", err)
	}
	return nil
}

func (t *Testimony) readFrom(s cryptobyte.String) error {
	var version, refusal uint8
	var from, to uint64
	if !s.ReadUint8(&version) {
		return errTruncated
	}
	if version != testimonyVersion {
		return fmt.Errorf("version %d; this program supports version %d", version, testimonyVersion)
	}
	if !s.CopyBytes(t.Question[:]) || !readString(&s, &t.Witness, maxName) || !s.ReadUint8(&refusal) || Refusal(refusal) >= numRefusals {
		return errTruncated
	}
	t.Refusal = Refusal(refusal)
	c := &t.Coverage
	if !s.ReadUint64(&c.Flows) || !s.ReadUint64(&from) || !s.ReadUint64(&to) || !s.ReadUint32(&c.Sampling) || !s.ReadUint64(&c.Skipped) {
		return errTruncated
	}
	c.From, c.To = flow.Time(from), flow.Time(to)
	if err := t.unmarshalEvaluations(&s); err != nil {
		return err
	}
	if err := t.unmarshalAnswers(&s); err != nil {
		return err
	}
	if !s.Empty() {
		return fmt.Errorf("%d trailing bytes", len(s))
	}
	return nil
}

func (t *Testimony) unmarshalEvaluations(s *cryptobyte.String) error {
	var clues uint16
	if !s.ReadUint16(&clues) || clues > MaxAskedClues {
		return errTruncated
	}
	t.Evaluations = make([][][]byte, clues)
	for i := range t.Evaluations {
		var keys uint32
		if !s.ReadUint32(&keys) || int(keys) > len(*s)/2 {
			return errTruncated
		}
		t.Evaluations[i] = make([][]byte, keys)
		for j := range t.Evaluations[i] {
			var e string
			if !readString(s, &e, maxElement) {
				return errTruncated
			}
			t.Evaluations[i][j] = []byte(e)
		}
	}
	return nil
}

func (t *Testimony) unmarshalAnswers(s *cryptobyte.String) error {
	const smallest = 2 + 16 + 32 + 4
	var n uint32
	if !s.ReadUint32(&n) || n > MaxAnswers || int(n) > len(*s)/smallest {
		return errTruncated
	}
	t.Answers = make([]SealedAnswer, n)
	for i := range t.Answers {
		a := &t.Answers[i]
		var text cryptobyte.String
		if !s.ReadUint16(&a.Branch) || !s.CopyBytes(a.Salt[:]) || !s.CopyBytes(a.Commitment[:]) ||
			!readUint32Prefixed(s, &text) || len(text) > MaxAnswer {
			return errTruncated
		}
		a.Ciphertext = []byte(text)
	}
	return nil
}

func readUint32Prefixed(s, out *cryptobyte.String) bool {
	var n uint32
	var b []byte
	if !s.ReadUint32(&n) || uint64(n) > uint64(len(*s)) || !s.ReadBytes(&b, int(n)) {
		return false
	}
	*out = b
	return true
}
