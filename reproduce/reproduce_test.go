package reproduce

import "testing"

func TestEveryEntryIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range All() {
		if r.Name == "" || r.Title == "" || r.Source == "" || r.Run == nil {
			t.Errorf("%+v lacks something", r)
		}
		if seen[r.Name] {
			t.Errorf("%s is listed twice", r.Name)
		}
		seen[r.Name] = true
		if got, ok := Find(r.Name); !ok || got.Title != r.Title {
			t.Errorf("%s is not found by its name", r.Name)
		}
	}
	for _, name := range []string{"sharing-figure-1", "sharing-private-search", "sharing-liars"} {
		if !seen[name] {
			t.Errorf("%s is not listed", name)
		}
	}
	if _, ok := Find("sharing-figure-99"); ok {
		t.Error("found what is not there")
	}
}
