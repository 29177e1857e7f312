package archtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated part of ARCHITECTURE.md again")

const (
	document = "../../ARCHITECTURE.md"
	begin    = "<!-- rooms: written by 'make gen' from internal/archtest -->\n"
	end      = "<!-- end of rooms -->\n"
)

// TestDocumentStatesTheRule keeps one table: the rule that is tested is the rule
// that is read. A room without a package is marked as planned.
func TestDocumentStatesTheRule(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s lacks the lines %q and %q", document, begin, end)
	}
	built := map[string]bool{}
	for _, p := range packages(t) {
		built[room(p.ImportPath)] = true
	}
	want := rule(built)
	if *update {
		if err := os.WriteFile(document, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is stale, run 'make gen' (-rule +document):\n%s", document, diff)
	}
}

// rule is the table of rooms and the bans as Markdown.
func rule(built map[string]bool) string {
	var b strings.Builder
	b.WriteString("\n| room | kind | holds |\n|---|---|---|\n")
	for _, r := range rooms {
		planned := ""
		if !built[r.name] {
			planned = " (planned)"
		}
		fmt.Fprintf(&b, "| `%s/`%s | %s | %s |\n", r.name, planned, r.kind, r.holds)
	}
	b.WriteString("\nBeyond the kinds, these imports are forbidden:\n\n")
	for _, ban := range bans {
		fmt.Fprintf(&b, "- `%s` must not import `%s`: %s.\n", ban.from, ban.to, ban.why)
	}
	b.WriteString("\n")
	return b.String()
}

// arrows are those of the picture in ARCHITECTURE.md, drawn with ─ if they are
// built and with ┄ if they are planned. One is built if a role, of those that
// run until they are stopped, links both ends.
var arrows = []struct{ role, from, to, drawn string }{
	{"node", "source", "store", "─┬─► store"},
	{"node", "store", "detect", "store ─► detect"},
	{"node", "detect", "decide", "├─► decide"},
	{"node", "decide", "contain", "decide ─► contain"},
	{"node", "trap", "signature", "trap ─► signature"},
	// Signatures that are matched in live traffic: the role that sees it links
	// both.
	{"cmd/dragnet-agent", "signature", "contain", "signature ─────────"},
	{"node/community", "clearinghouse", "publish", "clearinghouse ─► publish"},
}

// TestPictureIsTrue: a solid arrow is followed by code, and a dashed one is not.
func TestPictureIsTrue(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arrows {
		rooms := linkedRooms(t, a.role)
		built := rooms[a.from] && rooms[a.to]
		want := a.drawn
		if !built {
			want = strings.ReplaceAll(want, "─", "┄")
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s: the arrow from %s to %s should be drawn as %q (built: %v)", document, a.from, a.to, want, built)
		}
	}
}

// linkedRooms are the rooms that a package is linked from.
func linkedRooms(t *testing.T, name string) map[string]bool {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", module+name).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	rooms := map[string]bool{}
	for path := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(path, module) {
			rooms[room(path)] = true
		}
	}
	return rooms
}

// TestEveryDependencyIsExplained wants one row "| `module` | why |" for each
// module that go.mod requires directly, and no other rows.
func TestEveryDependencyIsExplained(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Require) == 0 {
		t.Fatal("go.mod requires nothing; the check reads the wrong file")
	}
	rows := map[string]int{}
	_, table, _ := strings.Cut(string(text), "| module | why |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| \\S").FindAllStringSubmatch(table, -1) {
		rows[m[1]]++
	}
	for _, r := range mod.Require {
		if !r.Indirect && rows[r.Path] != 1 {
			t.Errorf("%s: %d rows say why %s is needed, in the table of dependencies; want one", document, rows[r.Path], r.Path)
		}
		if !r.Indirect {
			delete(rows, r.Path)
		}
	}
	for path := range rows {
		t.Errorf("%s: the table of dependencies explains %s, which go.mod does not require directly", document, path)
	}
}
