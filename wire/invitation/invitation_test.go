package invitation_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"dragnet/wire/identity"
	"dragnet/wire/invitation"
)

func key(t testing.TB) identity.Public {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

func link(t testing.TB) invitation.Link {
	return invitation.Link{URL: "https://203.0.113.1:8443", Community: "friends", Member: "south", Server: key(t), Signer: key(t), Secret: [16]byte{1, 2, 3}}
}

func TestLink(t *testing.T) {
	l := link(t)
	for _, text := range []string{l.String(), "  " + l.String() + "\n"} {
		if got, err := invitation.Parse(text); err != nil || got != l {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	parts := strings.Split(l.String(), ",")
	with := func(i int, s string) string {
		out := append([]string{}, parts...)
		out[i] = s
		return strings.Join(out, ",")
	}
	for name, text := range map[string]string{
		"nothing": "", "cut short": l.String()[:len(l.String())-3], "another version": strings.Replace(l.String(), "dragnet-1", "dragnet-2", 1),
		"plain HTTP": strings.Replace(l.String(), "https", "http", 1), "a user": strings.Replace(l.String(), "https://", "https://a@", 1),
		"a path": strings.Replace(l.String(), "/#", "/x/#", 1), "a query": strings.Replace(l.String(), "/#", "?x/#", 1),
		"a name that is a path": with(2, "../south"), "a name of two lines": with(1, "a\nb"), "an option": with(2, "-x"), "no name": with(2, ""),
		"a key of zeros": with(3, base64.RawURLEncoding.EncodeToString(make([]byte, 32))), "a short key": with(4, "AAAA"), "a long secret": with(5, "AAAAAAAAAAAAAAAAAAAAAAAAAA"),
		"more": l.String() + ",x", "very long": l.String() + strings.Repeat("A", 1000),
	} {
		if got, err := invitation.Parse(text); !errors.Is(err, invitation.ErrLink) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestCode: whatever somebody between the two changes, they read different codes; the
// secret, which a thief knows, is not in it.
func TestCode(t *testing.T) {
	l, k := link(t), key(t)
	seen := map[string]string{}
	add := func(name string, l invitation.Link, k identity.Public) {
		code := invitation.Code(&l, k)
		if other, again := seen[code]; again {
			t.Errorf("%s has the code of %s", name, other)
		}
		if len(code) != 24 || strings.Count(code, "-") != 4 {
			t.Errorf("code %q", code)
		}
		seen[code] = name
	}
	add("the true one", l, k)
	add("another key", l, key(t))
	for name, change := range map[string]func(*invitation.Link){
		"another server": func(l *invitation.Link) { l.Server = key(t) }, "another signer": func(l *invitation.Link) { l.Signer = key(t) },
		"both exchanged":  func(l *invitation.Link) { l.Server, l.Signer = l.Signer, l.Server },
		"another address": func(l *invitation.Link) { l.URL = "https://203.0.113.2:8443" },
		"another name":    func(l *invitation.Link) { l.Member = "north" }, "names cut elsewhere": func(l *invitation.Link) { l.Community, l.Member = "friendss", "outh" },
	} {
		changed := l
		change(&changed)
		add(name, changed, k)
	}
	l.Secret = [16]byte{9}
	if seen[invitation.Code(&l, k)] != "the true one" {
		t.Error("the code depends on the secret")
	}
}

func FuzzParse(f *testing.F) {
	l := link(f)
	f.Add(l.String())
	f.Add("https://[2001:db8::1]:8443/#dragnet-1,a,b,,,")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := invitation.Parse(text)
		if err != nil {
			return
		}
		if again, err := invitation.Parse(got.String()); err != nil || again != got {
			t.Errorf("%q is read as %+v, and that as %+v, %v", text, got, again, err)
		}
	})
}
