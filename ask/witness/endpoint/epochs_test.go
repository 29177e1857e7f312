package endpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEpochs: a day keeps the first name that was learned, over a restart too;
// other days are learned although two names for one conflict.
func TestEpochs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "epochs.json")
	e, err := OpenEpochs(file)
	if err != nil || e.Name("2026-11-22") != "2026-11-22" || e.Published() == nil {
		t.Fatal(e, err)
	}
	if err := e.merge(map[string]string{"2026-11-22": "2026-11-22.a"}); err != nil {
		t.Fatal(err)
	}
	if e, err = OpenEpochs(file); err != nil || e.Name("2026-11-22") != "2026-11-22.a" {
		t.Fatal(e, err)
	}
	if err := e.merge(map[string]string{"2026-11-22": "2026-11-22.b", "2026-11-23": "2026-11-23.c"}); err == nil {
		t.Error("a day was given a second name")
	}
	if e.Name("2026-11-22") != "2026-11-22.a" || e.Name("2026-11-23") != "2026-11-23.c" {
		t.Error(e.Published())
	}
	many := map[string]string{}
	for i := range 2 * maxEpochs {
		day := time.Date(2027, 1, i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
		many[day] = fmt.Sprint(day, ".", i)
	}
	if err := e.merge(many); err != nil || len(e.Published()) != maxEpochs || e.Name("2026-11-22") != "2026-11-22" {
		t.Error(len(e.Published()), err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenEpochs(file); err == nil {
		t.Error("a damaged file was taken for an empty one")
	}
}
