package envelope_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/wire/envelope"
	"dragnet/wire/identity"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func generate(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func known(keys ...*identity.Key) func(identity.ID) (identity.Public, bool) {
	return func(id identity.ID) (identity.Public, bool) {
		for _, k := range keys {
			if k.ID() == id {
				return k.Public(), true
			}
		}
		return identity.Public{}, false
	}
}

func seal(t testing.TB, k *identity.Key, h envelope.Header, body string) []byte {
	t.Helper()
	data, err := envelope.Seal(k, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOpen(t *testing.T) {
	alice, bob, eve := generate(t), generate(t), generate(t)
	header := envelope.Header{Kind: "question", To: bob.ID(), Issued: now, Expires: now.Add(time.Hour)}
	good := envelope.Expect{Kind: "question", To: bob.ID(), Now: now, Skew: time.Minute, MaxBody: 5, Signer: known(alice)}
	data := seal(t, alice, header, "hello")
	for _, test := range []struct {
		name   string
		change func(*envelope.Expect)
		want   error
	}{
		{"as sent", func(*envelope.Expect) {}, nil},
		{"clock behind", func(x *envelope.Expect) { x.Now = now.Add(-time.Minute) }, nil},
		{"clock far behind", func(x *envelope.Expect) { x.Now = now.Add(-2 * time.Minute) }, envelope.ErrEarly},
		{"clock ahead", func(x *envelope.Expect) { x.Now = now.Add(time.Hour + 59*time.Second) }, nil},
		{"late", func(x *envelope.Expect) { x.Now = now.Add(time.Hour + time.Minute) }, envelope.ErrExpired},
		{"another kind", func(x *envelope.Expect) { x.Kind = "report" }, envelope.ErrKind},
		{"another receiver", func(x *envelope.Expect) { x.To = eve.ID() }, envelope.ErrAudience},
		{"unknown signer", func(x *envelope.Expect) { x.Signer = known(eve) }, envelope.ErrSigner},
		{"directory that lies", func(x *envelope.Expect) {
			x.Signer = func(identity.ID) (identity.Public, bool) { return eve.Public(), true }
		}, envelope.ErrSigner},
		{"too large", func(x *envelope.Expect) { x.MaxBody = 4 }, envelope.ErrMalformed},
	} {
		x := good
		test.change(&x)
		e, err := envelope.Open(data, x)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if err == nil && (string(e.Body) != "hello" || e.From != alice.ID() || !e.Expires.Equal(header.Expires)) {
			t.Errorf("%s: %+v", test.name, e)
		}
	}
	everybody := header
	everybody.To = identity.ID{}
	if _, err := envelope.Open(seal(t, alice, everybody, ""), good); err != nil {
		t.Errorf("to everybody: %v", err)
	}
}

// TestChanged: an envelope with one byte changed, cut or added is refused.
func TestChanged(t *testing.T) {
	alice := generate(t)
	data := seal(t, alice, envelope.Header{Kind: "k", Issued: now, Expires: now.Add(time.Hour)}, "body")
	x := envelope.Expect{Kind: "k", Now: now, MaxBody: 1 << 10, Signer: known(alice)}
	rapid.Check(t, func(t *rapid.T) {
		changed := bytes.Clone(data)
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			changed[rapid.IntRange(0, len(data)-1).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		case 1:
			changed = changed[:rapid.IntRange(0, len(data)-1).Draw(t, "length")]
		case 2:
			changed = append(changed, rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "more")...)
		}
		if _, err := envelope.Open(changed, x); err == nil {
			t.Fatal("accepted")
		}
	})
}

func TestSealRefuses(t *testing.T) {
	k := generate(t)
	for _, h := range []envelope.Header{
		{Kind: "", Issued: now, Expires: now.Add(time.Hour)},
		{Kind: string(make([]byte, envelope.MaxKind+1)), Issued: now, Expires: now.Add(time.Hour)},
		{Kind: "k", Issued: now, Expires: now},
		{Kind: "k", Issued: now, Expires: now.Add(envelope.MaxLife + 1)},
	} {
		if _, err := envelope.Seal(k, h, nil); err == nil {
			t.Errorf("%+v was sealed", h)
		}
	}
}

func FuzzOpen(f *testing.F) {
	alice := generate(f)
	f.Add(seal(f, alice, envelope.Header{Kind: "k", Issued: now, Expires: now.Add(time.Hour)}, "body"))
	f.Fuzz(func(t *testing.T, data []byte) {
		signed := false
		for _, signer := range []*identity.Key{alice, generate(t)} {
			_, err := envelope.Open(data, envelope.Expect{Kind: "k", Now: now, MaxBody: 100, Signer: known(signer)})
			signed = signed || err == nil
		}
		if _, err := envelope.From(data); err != nil && signed {
			t.Fatal("opened, but its sender cannot be told")
		}
	})
}
