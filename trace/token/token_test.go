package token

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func public() ed25519.PublicKey { return testKey.Public().(ed25519.PublicKey) }

func openStore(t testing.TB, dir string, limits Limits) *Store {
	t.Helper()
	s, err := Open(dir, testKey, limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, record string, account uint32) string {
	t.Helper()
	token, err := s.Put([]byte(record), Account{User: account}, false)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func verified(t testing.TB, dir string) Verification {
	t.Helper()
	r, err := Verify(dir, public())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Error(p)
	}
	return r
}

func TestPutAndGet(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	long := strings.Repeat(`{"name":"sshd"}`, 300)
	want := map[string]string{}
	for i, record := range []string{"", "x", `{"v":1}`, long} {
		token, err := s.Put([]byte(record), Account{User: uint32(i)}, true)
		if err != nil {
			t.Fatal(err)
		}
		want[token] = record
	}
	twin := put(t, s, long, 3)
	if _, again := want[twin]; again {
		t.Error("the same record gave the same token twice")
	}
	if err := s.PutPrevious(twin, []byte("answers"), Account{User: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for token, record := range want {
		e, err := Get(dir, token)
		if err != nil || e.Problem != nil || string(e.Record) != record || Commit(e.Salt, e.Record).String() != token {
			t.Errorf("%s: %+v, %v", token, e, err)
		}
	}
	if e, err := Get(dir, twin); err != nil || len(e.Previous) != 1 || string(e.Previous[0].Body) != "answers" {
		t.Errorf("answers of previous hosts: %+v, %v", e, err)
	}
	if _, err := Get(dir, Random()); !errors.Is(err, ErrNoToken) {
		t.Errorf("unknown token: %v", err)
	}
	if r := verified(t, dir); r.Records != 5 || r.Unsigned != 0 || r.Checkpoints == 0 {
		t.Errorf("%+v", r)
	}
}

func TestTwoDaemonsCannotShareAStore(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	defer s.Close()
	if _, err := Open(dir, testKey, DefaultLimits()); err == nil {
		t.Error("a store was opened twice")
	}
}

// TestEveryChangedByteShows changes each byte of a store in turn.
func TestEveryChangedByteShows(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	for i := range 3 {
		token := put(t, s, fmt.Sprintf(`{"v":1,"record":%d}`, i), 1000)
		if err := s.PutPrevious(token, []byte("{}"), Account{User: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	path, good := onlySegment(t, dir)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(dir, public())
		if err == nil && len(r.Problems) == 0 && (r.Records == 3 && r.Unsigned == 0) {
			t.Errorf("byte %d of %d was changed unnoticed", i, len(good))
		}
	}
}

func onlySegment(t testing.TB, dir string) (path string, contents []byte) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+extension))
	if len(names) != 1 {
		t.Fatalf("segments: %v", names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return names[0], b
}

func TestRemovedRecordShows(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	for i := range 3 {
		put(t, s, fmt.Sprint("record ", i), 1)
	}
	s.Close()
	path, good := onlySegment(t, dir)
	r := bufio.NewReader(bytes.NewReader(good[headerSize:]))
	var out []byte
	for i := 0; ; i++ {
		f, err := readFrame(r)
		if err != nil {
			break
		}
		if i != 1 && f.holdsData() {
			f.number = min(f.number, uint64(i)) // a careful forger renumbers
		}
		if f.kind != recordFrame || f.number != 2 {
			out = f.appendTo(out)
		}
	}
	os.WriteFile(path, append(good[:headerSize:headerSize], out...), 0o600)
	report, err := Verify(dir, public())
	if err != nil || len(report.Problems) == 0 {
		t.Errorf("a removed record went unnoticed: %+v, %v", report, err)
	}
}

// TestCrashLosesNothingAcknowledged cuts the last segment at every byte, as a
// power failure may, and reopens it.
func TestCrashLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	type saved struct {
		token string
		size  int64
	}
	var all []saved
	for i := range 5 {
		token, err := s.Put(fmt.Appendf(nil, "record %d", i), Account{User: 0}, true)
		if err != nil {
			t.Fatal(err)
		}
		path, _ := onlySegment(t, dir)
		st, _ := os.Stat(path)
		all = append(all, saved{token, st.Size()})
	}
	s.Close()
	path, whole := onlySegment(t, dir)
	for cut := headerSize; cut <= len(whole); cut += 7 {
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, filepath.Base(path)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, again, DefaultLimits())
		put(t, s, "after the crash", 0)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if _, err := Get(again, r.token); r.size <= int64(cut) && err != nil {
				t.Fatalf("cut at %d: %s was on the disk at %d and is lost: %v", cut, r.token, r.size, err)
			}
		}
		verified(t, again)
	}
}

func TestConcurrentPuts(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Limits{MaxBytes: 512 << 10, MaxAge: time.Hour})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				token, err := s.Put(fmt.Appendf(nil, "%d %d", g, i), Account{User: uint32(g)}, i%3 == 0)
				if err != nil {
					t.Error(err)
				} else if i%10 == 0 {
					if err := s.PutPrevious(token, []byte("{}"), Account{User: uint32(g)}); err != nil {
						t.Error(err)
					}
				}
				if i%25 == 0 {
					s.Sync()
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Records != 400 {
		t.Errorf("%d records of 400", r.Records)
	}
}

func TestRedemption(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	token := put(t, s, `{"v":1}`, 1)
	s.PutPrevious(token, []byte(`{"answers":[]}`), Account{User: 1})
	s.Close()
	now := time.Unix(1e9, 0)
	l, err := Redeem(dir, testKey, token, "h1", "case 7", now)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(l)
	if l, err = ParseSignedRedemption(b); err != nil {
		t.Fatal(err)
	}
	r, err := l.Open()
	want := Redemption{Version: 1, Token: token, Record: []byte(`{"v":1}`), Salt: r.Salt, Stored: r.Stored,
		Previous: [][]byte{[]byte(`{"answers":[]}`)}, Host: "h1", Redeemed: now.UTC(), For: "case 7"}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	changed := l
	changed.Payload = bytes.Replace(l.Payload, []byte("case 7"), []byte("case 8"), 1)
	if _, err := changed.Open(); err == nil {
		t.Error("a changed redemption was accepted")
	}
	// A host that lies about the record can sign, but the token has left.
	r.Record = []byte(`{"v":2}`)
	changed.Payload, _ = json.Marshal(r)
	changed.Signature = ed25519.Sign(testKey, changed.signedBytes())
	if _, err := changed.Open(); !errors.Is(err, ErrAltered) {
		t.Errorf("a forged record: %v", err)
	}

	path, good := onlySegment(t, dir)
	os.WriteFile(path, bytes.Replace(good, []byte(`{"v":1}`), []byte(`{"v":9}`), 1), 0o600)
	if l, err = Redeem(dir, testKey, token, "h1", "", now); err != nil {
		t.Fatal(err)
	}
	if r, err = l.Open(); err != nil || r.Record != nil || r.Problem != ErrAltered.Error() {
		t.Errorf("record changed on disk: %+v, %v", r, err)
	}
	unknown, err := Redeem(dir, testKey, Random(), "h1", "", now)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := unknown.Open(); err != nil || r.Problem != ErrNoToken.Error() {
		t.Errorf("unknown token: %+v, %v", r, err)
	}
}

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "key")
	a, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadKey(path)
	if err != nil || !a.Equal(b) {
		t.Errorf("the key did not survive: %v", err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", st.Mode())
	}
	os.WriteFile(path, []byte("something else"), 0o600)
	if _, err := LoadKey(path); err == nil {
		t.Error("a file that is not a key was overwritten or accepted")
	}
	if k, err := ParseKey(FormatKey(public())); err != nil || !k.Equal(public()) {
		t.Errorf("public key: %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	rec := &frame{kind: recordFrame, number: 1, time: 2, coding: flateEncoding}
	rec.coding, rec.data = compressRecord([]byte(strings.Repeat(`{"v":1,"time":"2026-11-22T00:00:00Z"}`, 20)))
	f.Add(rec.appendTo(nil))
	f.Add((&frame{kind: checkpointFrame, signature: make([]byte, 64)}).appendTo(nil))
	f.Add((&frame{kind: gapFrame, number: 1, last: 9, signature: make([]byte, 64)}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			fr, err := readFrame(r)
			if err != nil {
				return
			}
			fr.checkBody()
			if again := fr.appendTo(nil); !bytes.Contains(b, again) && fr.kind != checkpointFrame && fr.kind != gapFrame {
				t.Fatalf("%+v does not encode as it was read", fr)
			}
		}
	})
}

func TestComplete(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, DefaultLimits())
	tok := put(t, s, "one", 1)
	put(t, s, "two", 1)
	s.Close()
	for _, prefix := range []string{tok, tok[:18], tok[:minPrefix]} {
		if got, err := Complete(dir, prefix); got != tok || err != nil {
			t.Errorf("%s: %s, %v", prefix, got, err)
		}
	}
	for _, wrong := range []string{"", tok[:minPrefix-1], "zzzzzzzzzz", tok + "0", "../../../etc"} {
		if got, err := Complete(dir, wrong); err == nil {
			t.Errorf("%q is taken for %s", wrong, got)
		}
	}
	other := "00000000"
	if strings.HasPrefix(tok, other) {
		other = "11111111"
	}
	if _, err := Complete(dir, other); !errors.Is(err, ErrNoToken) {
		t.Errorf("a prefix of no token: %v", err)
	}
}
