package treehead_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"dragnet/wire/identity"
	"dragnet/wire/treehead"
)

func key(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestHead(t *testing.T) {
	own, other, stranger := key(t), key(t), key(t)
	text, err := treehead.Sign(own, 7, tlog.Hash{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	want := treehead.TreeHead{Origin: own.Public(), Size: 7, Root: tlog.Hash{1, 2}}
	if got, err := treehead.Open(text, own.Public()); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	both, err := treehead.Cosign(text, own.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := treehead.OpenCosigned(both, own.Public(), other.Public()); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := treehead.Open(both, own.Public()); err != nil || got != want {
		t.Errorf("cosigned: %+v, %v", got, err)
	}
	theirs, err := treehead.Sign(other, 7, tlog.Hash{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"another's":               second(treehead.Open(theirs, own.Public())),
		"a larger size":           second(treehead.Open(strings.Replace(text, "\n7\n", "\n8\n", 1), own.Public())),
		"a size written twice":    second(treehead.Open(strings.Replace(text, "\n7\n", "\n07\n", 1), own.Public())),
		"nothing":                 second(treehead.Open("", own.Public())),
		"very long":               second(treehead.Open(text+strings.Repeat("x", 5000), own.Public())),
		"nobody saw it":           second(treehead.OpenCosigned(text, own.Public(), other.Public())),
		"another saw it":          second(treehead.OpenCosigned(both, own.Public(), stranger.Public())),
		"only another signed it":  second(treehead.OpenCosigned(theirs, own.Public(), other.Public())),
		"cosigned, of another's":  third(treehead.Cosign(theirs, own.Public(), other)),
		"seen and not by its own": second(treehead.Open(dropLine(both, own.Public().String()), own.Public())),
	} {
		if !errors.Is(err, treehead.ErrHead) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ treehead.TreeHead, err error) error { return err }
func third(_ string, err error) error             { return err }

// dropLine leaves out the signature of a name.
func dropLine(text, name string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "— "+name) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func FuzzOpen(f *testing.F) {
	k := key(f)
	text, err := treehead.Sign(k, 3, tlog.Hash{9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("dragnet record 1\n\n— a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := treehead.Open(text, k.Public()); err == nil && (h.Size != 3 || h.Root != tlog.Hash{9}) {
			t.Errorf("a head that was never signed was opened: %+v", h)
		}
	})
}
