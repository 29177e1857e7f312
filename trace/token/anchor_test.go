package token

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCutsAtEitherEndShow removes records where no signature within the store
// shows it: whole segments, and the tail behind a checkpoint.
func TestCutsAtEitherEndShow(t *testing.T) {
	key := testKey.Public().(ed25519.PublicKey)
	for name, cut := range map[string]func(segments []string) error{
		"nothing":       func([]string) error { return nil },
		"first segment": func(s []string) error { return os.Remove(s[0]) },
		"last segment":  func(s []string) error { return os.Remove(s[len(s)-1]) },
		"all segments": func(s []string) error {
			for _, path := range s {
				os.Remove(path)
			}
			return nil
		},
		"tail at a checkpoint": func(s []string) error {
			// The frames of the last segment that has records.
			for i := len(s) - 1; i >= 0; i-- {
				g := &segment{path: s[i]}
				var ends []int64
				if err := g.scanFrames(func(f *frame, _ Hash) error {
					if f.kind == checkpointFrame {
						ends = append(ends, g.size)
					}
					return nil
				}); err != nil {
					return err
				}
				if len(ends) > 1 {
					return os.Truncate(s[i], ends[len(ends)-2])
				}
			}
			return fmt.Errorf("no segment with two checkpoints")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, Limits{MaxBytes: 1 << 20, MaxAge: time.Hour})
			for i := range 300 {
				if _, err := s.Put(fmt.Appendf(nil, "%d %x", i, Commit(Hash{}, fmt.Append(nil, i))), Account{User: 1}, i%100 > 90); err != nil {
					t.Fatal(err)
				}
			}
			elsewhere := s.Anchor().String()
			s.Close()
			segments, _ := filepath.Glob(filepath.Join(dir, "*"+extension))
			if len(segments) < 3 {
				t.Fatalf("%d segments", len(segments))
			}
			if err := cut(segments); err != nil {
				t.Fatal(err)
			}
			a, err := ParseAnchor(elsewhere, key)
			if err != nil {
				t.Fatal(err)
			}
			v, err := VerifyAnchored(dir, key, a)
			if err != nil || (len(v.Problems) == 0) != (name == "nothing") {
				t.Errorf("problems: %v, %v", v.Problems, err)
			}
			// The other anchor still shows it if the one in the folder is removed as well.
			os.Remove(filepath.Join(dir, anchorFile))
			v, err = VerifyAnchored(dir, key, a)
			if err != nil || len(v.Problems) == 0 {
				t.Errorf("without the anchor in the folder: %v, %v", v.Problems, err)
			}
		})
	}
}

func TestParseAnchor(t *testing.T) {
	key := testKey.Public().(ed25519.PublicKey)
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	put(t, s, "x", 1)
	good := s.Anchor().String()
	s.Close()
	if _, err := ParseAnchor(good+"\n", key); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "x", strings.Replace(good, " 1 ", " 2 ", 1), good[:len(good)-1], strings.ToUpper(good)} {
		if _, err := ParseAnchor(bad, key); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseAnchor(f *testing.F) {
	f.Add("dragnet-ident-anchor/1 1 2 " + strings.Repeat("0", 64) + " 5 " + strings.Repeat("0", 128))
	key := testKey.Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := ParseAnchor(text, key); err == nil {
			t.Fatalf("%q has no valid signature", text)
		}
	})
}

// TestRecordsAreStoredDuringACompaction stores records while room is made.
func TestRecordsAreStoredDuringACompaction(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Limits{MaxBytes: 256 << 10, MaxAge: time.Hour})
	for i := range 1000 {
		put(t, s, fmt.Sprintf("%d %x", i, Commit(Hash{}, fmt.Append(nil, i))), uint32(i%3))
	}
	s.mu.Lock()
	s.limits.MaxBytes /= 2 // so that there is much to do
	done := s.beginCompaction()
	s.limits.MaxBytes *= 2
	s.mu.Unlock()
	during := 0
	for running := true; running; {
		put(t, s, "during", 9)
		select {
		case <-done:
			running = false
		default:
			during++
		}
	}
	if during == 0 {
		t.Error("no record was stored before the compaction ended")
	}
	s.Close()
	verified(t, dir)
}
