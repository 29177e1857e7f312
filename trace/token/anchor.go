package token

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Anchor is a signed statement of how far a store goes: where it begins, and the
// number and link of its last record. Kept on another machine it shows, with
// VerifyAnchored, that records were cut off at either end, which no signature
// within the store can.
type Anchor struct {
	First, Number uint64
	Link          Hash
	Time          time.Time // to the second
	Signature     []byte
}

// anchorFile holds the newest anchor in a store's folder, for an operator who kept
// none elsewhere. Only one kept elsewhere shows what was cut off.
const anchorFile = "anchor"

func (a Anchor) signedText() string {
	return fmt.Sprintf("dragnet-ident-anchor/1 %d %d %s %d", a.First, a.Number, a.Link, a.Time.Unix())
}

// String is one line, which ParseAnchor reads.
func (a Anchor) String() string { return a.signedText() + " " + hex.EncodeToString(a.Signature) }

// ParseAnchor reads an anchor and checks its signature.
func ParseAnchor(text string, key ed25519.PublicKey) (Anchor, error) {
	var a Anchor
	var link, signature string
	var seconds int64
	if _, err := fmt.Sscanf(strings.TrimSpace(text), "dragnet-ident-anchor/1 %d %d %64s %d %128s", &a.First, &a.Number, &link, &seconds, &signature); err != nil {
		return a, fmt.Errorf("%.40q is not an anchor of a token store: %w", text, err)
	}
	var err error
	if a.Link, err = ParseToken(link); err != nil {
		return a, errors.New("an anchor's link is not 64 hex digits")
	}
	a.Time = time.Unix(seconds, 0).UTC()
	if a.Signature, err = hex.DecodeString(signature); err != nil || !ed25519.Verify(key, []byte(a.signedText()), a.Signature) {
		return a, errors.New("the anchor is not signed by this host")
	}
	return a, nil
}

// Anchor states how far the store goes now.
func (s *Store) Anchor() Anchor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeAnchor()
}

// makeAnchor is Anchor; the caller holds the lock.
func (s *Store) makeAnchor() Anchor {
	a := Anchor{First: s.active.first, Number: s.active.next - 1, Link: s.active.link, Time: s.now().UTC().Truncate(time.Second)}
	if len(s.sealed) > 0 {
		a.First = s.sealed[0].first
	}
	a.Signature = ed25519.Sign(s.key, []byte(a.signedText()))
	return a
}

// ReadAnchor reads the anchor in a store's folder.
func ReadAnchor(dir string, key ed25519.PublicKey) (Anchor, error) {
	b, err := os.ReadFile(filepath.Join(dir, anchorFile))
	if err != nil {
		return Anchor{}, fmt.Errorf("read anchor: %w", err)
	}
	return ParseAnchor(string(b), key)
}

// VerifyAnchored is Verify, and checks that the store still has what anchors of
// earlier times state. Records that were removed to make room are no problem, but
// counted.
func VerifyAnchored(dir string, key ed25519.PublicKey, anchors ...Anchor) (Verification, error) {
	// The anchor is read first: a daemon may be storing.
	own, missing := ReadAnchor(dir, key)
	list, _, err := listSegments(dir)
	if err == nil && missing == nil && startsLater(list, own) {
		// It may have made room since; the anchor follows within a second.
		time.Sleep(anchorDelay)
		own, missing = ReadAnchor(dir, key)
	}
	if err != nil {
		return Verification{}, fmt.Errorf("read token store: %w", err)
	}
	v, err := verifySegments(list, key)
	if err != nil {
		return v, err
	}
	switch {
	case missing != nil && len(list) > 0:
		v.Problems = append(v.Problems, Problem{File: dir, What: fmt.Sprintf("there is no valid anchor in the folder: %v", missing)})
	case missing == nil:
		anchors = append(anchors, own)
		if startsLater(list, own) {
			v.Problems = append(v.Problems, Problem{File: dir, Number: own.First - 1, What: "the store began here, and its first records are missing"})
		}
	}
	for _, a := range anchors {
		if what := checkAnchor(list, a); what != "" {
			v.Problems = append(v.Problems, Problem{File: dir, Number: a.Number, What: what})
		}
	}
	return v, nil
}

// anchorDelay is more than the time between a change and its anchor.
const anchorDelay = 1500 * time.Millisecond

func startsLater(list []*segment, a Anchor) bool { return len(list) == 0 || list[0].first > a.First }

// checkAnchor says what contradicts an anchor; "" if nothing does.
func checkAnchor(list []*segment, a Anchor) string {
	if a.Number == 0 {
		return ""
	}
	if len(list) == 0 || list[len(list)-1].next-1 < a.Number {
		return fmt.Sprintf("the anchor of %s says that record %d was stored, and the store ends before it", a.Time.Format(time.RFC3339), a.Number)
	}
	what := ""
	for _, g := range list {
		if a.Number < g.first || a.Number >= g.next {
			continue
		}
		_ = g.scanFrames(func(f *frame, before Hash) error {
			if f.holdsData() && f.number == a.Number && f.nextLink(before) != a.Link ||
				f.kind == gapFrame && f.last == a.Number && f.after != a.Link {
				what = fmt.Sprintf("the anchor of %s has another link: the records up to it were changed", a.Time.Format(time.RFC3339))
			}
			return nil
		})
	}
	return what
}
