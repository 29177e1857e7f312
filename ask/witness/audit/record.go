package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// TrailEntry is one line of the trail. Its JSON form is what is hashed: fields are
// added, never changed.
type TrailEntry struct {
	Version int       `json:"version"`
	Time    flow.Time `json:"time"`
	// Event is asked, answered or refused.
	Event string `json:"event"`
	// Case joins the entries of one question.
	Case         int64  `json:"case"`
	Asker        string `json:"asker"`
	Organisation string `json:"organisation"`
	Via          string `json:"via"`
	// Question is its ID in hex.
	Question string `json:"question"`
	Epoch    string `json:"epoch,omitempty"`
	// Clues say what the witness could see of each clue: end, mask, state and
	// keys.
	Clues  []EntryClue  `json:"clues,omitempty"`
	Window *flow.Window `json:"window,omitempty"`
	// Refusal is the reason given to the asker, Reason the one for the operator.
	Refusal string `json:"refusal,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Answers int    `json:"answers,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	Flows   uint64 `json:"flows,omitempty"`
	// Used is what the entry took from the budgets, beside Bytes.
	Used *UsedBudget `json:"used,omitempty"`
}

// UsedBudget is what an entry took from the budgets of the asker's organisation and, if
// All, of all together.
type UsedBudget struct {
	Questions int   `json:"questions,omitempty"`
	Keys      int   `json:"keys,omitempty"`
	Addresses int64 `json:"addresses,omitempty"`
	Hosts     int   `json:"hosts,omitempty"`
	All       bool  `json:"all,omitempty"`
}

// EntryClue is one clue as the witness saw it.
type EntryClue struct {
	End   string `json:"end"`
	Mask  string `json:"mask"`
	State string `json:"state,omitempty"`
	// Bounds are such as "bytes>=10M peers>=20".
	Bounds string `json:"bounds,omitempty"`
	// Keys are the first few of Count.
	Keys  []string `json:"keys"`
	Count int      `json:"count"`
}

// shownKeys bounds the keys of one clue in the record: lists may have thousands.
const shownKeys = 16

func (a *VerifiedQuestion) entry(now time.Time, number int64, event string, v policy.Ruling) TrailEntry {
	e := TrailEntry{
		Version: 1, Time: flow.FromTime(now), Event: event, Case: number, Asker: a.Asker.ID, Organisation: a.Asker.Class,
		Via: a.Via, Question: hex.EncodeToString(a.ID[:]), Refusal: v.Refusal.String(), Reason: v.Reason,
	}
	if event != "asked" {
		return e
	}
	e.Epoch, e.Window = a.Question.Epoch, &a.Question.Window
	for i := range a.Question.Clues {
		e.Clues = append(e.Clues, clueOf(&a.Question.Clues[i]))
	}
	return e
}

func clueOf(c *dossier.AskedClue) EntryClue {
	out := EntryClue{End: c.End.String(), Mask: c.Mask.String(), State: c.State.String(), Bounds: c.Bounds.String(), Count: len(c.Keys)}
	for _, k := range c.Keys[:min(len(c.Keys), shownKeys)] {
		out.Keys = append(out.Keys, k.K.String())
	}
	return out
}

// Head is the end of the record. A copy kept elsewhere shows later whether all
// entries before it are still there, unchanged.
type Head struct {
	Entries int64  `json:"entries"`
	Hash    string `json:"hash"`
}

// hashEntry is the hash of an entry with all before it.
func hashEntry(seq int64, before, entry []byte) []byte {
	h := sha256.New()
	h.Write([]byte("dragnet audit v1\x00"))
	binary.Write(h, binary.BigEndian, seq)
	h.Write(before)
	h.Write(entry)
	return h.Sum(nil)
}

func appendEntry(tx *state.Tx, e TrailEntry) error {
	seq, before := int64(0), []byte{}
	err := tx.QueryRow(`SELECT seq, hash FROM ask_entry ORDER BY seq DESC LIMIT 1`).Scan(&seq, &before)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	seq++
	if _, err := tx.Exec(`INSERT INTO ask_entry (seq, entry, hash) VALUES (?, ?, ?)`, seq, text, hashEntry(seq, before, text)); err != nil {
		return err
	}
	return addToTree(tx, seq-1, text)
}

// errStop ends a listing early.
var errStop = errors.New("enough")

// List calls show with the record's entries in their order, starting after
// entry number after, until show returns false.
func (d *Trail) List(ctx context.Context, after int64, show func(number int64, e TrailEntry) bool) error {
	err := d.eachEntry(ctx, after, func(seq int64, text, _ []byte) error {
		var e TrailEntry
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("entry %d of the record: %w", seq, err)
		}
		if !show(seq, e) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (d *Trail) eachEntry(ctx context.Context, after int64, use func(seq int64, text, hash []byte) error) error {
	return d.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(r *sql.Rows) error {
			var seq int64
			var text, hash []byte
			if err := r.Scan(&seq, &text, &hash); err != nil {
				return err
			}
			return use(seq, text, hash)
		}, `SELECT seq, entry, hash FROM ask_entry WHERE seq > ? ORDER BY seq`, after)
	})
}

// ErrTampered says that the record is not what was written.
var ErrTampered = errors.New("the record was tampered with")

// Verify computes the chain again. With a Head that was noted before, it also
// checks that the record still starts with the entries of that time.
func (d *Trail) Verify(ctx context.Context, noted *Head) (Head, error) {
	head := Head{}
	before := []byte{}
	met := noted == nil || noted.Entries == 0
	err := d.eachEntry(ctx, 0, func(seq int64, text, hash []byte) error {
		if head.Entries++; seq != head.Entries {
			return fmt.Errorf("%w: entry %d is missing", ErrTampered, head.Entries)
		}
		if before = hashEntry(seq, before, text); string(before) != string(hash) {
			return fmt.Errorf("%w: entry %d is not the one that was written", ErrTampered, seq)
		}
		head.Hash = hex.EncodeToString(hash)
		if noted != nil && noted.Entries == seq {
			if met = noted.Hash == head.Hash; !met {
				return fmt.Errorf("%w: entry %d or one before it was replaced", ErrTampered, seq)
			}
		}
		return nil
	})
	if err == nil && !met {
		err = fmt.Errorf("%w: it ends at entry %d, and %d were noted", ErrTampered, head.Entries, noted.Entries)
	}
	return head, err
}

// CountSince returns how many questions were asked since t, and how many of them
// were refused.
func (d *Trail) CountSince(ctx context.Context, t time.Time) (asked, refused int, err error) {
	err = d.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT count(*), COALESCE(SUM(CASE WHEN refusal <> 0 THEN 1 ELSE 0 END), 0) FROM ask_case WHERE asked >= ?`, t.UnixNano()).Scan(&asked, &refused)
	})
	return asked, refused, err
}
