// Package archtest fails the build when an import points against the data
// flow that ARCHITECTURE.md draws.
package archtest

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "dragnet/"

// kind of a room: what it may import, and who may import it.
type kind string

const (
	// A foundation may be imported by every room below it in the table, and
	// imports only foundations above it.
	foundation kind = "foundation"
	// A stage turns one noun into another and sees the foundations only. One
	// that needs another declares a small interface; node or cmd passes it in.
	stage kind = "stage"
	// A joiner may import everything; only joiners may import it.
	joiner kind = "joiner"
)

// rooms is the one table of the folders that follow the data, in its order;
// 'make gen' copies it into ARCHITECTURE.md.
var rooms = []struct {
	name  string
	kind  kind
	holds string
}{
	{"flow", foundation, "what is seen: flows, hosts, the site and its networks; `flow/key`: masks and hashes over flows"},
	{"dossier", foundation, "what is concluded and exchanged: question, testimony, report, group, entry, finding, evidence, signature, decision; `dossier/pattern`: the pattern language"},
	{"packet", foundation, "packets: decoding, capture files, TCP reassembly"},
	{"wire", foundation, "what organisations send each other: messages, signed envelopes, clients, enrolment"},
	{"daw", foundation, "the pure rules of distributed worm containment: records and limits, time as an argument"},
	{"source", stage, "bytes → flow: one folder for each log, capture or export format"},
	{"store", stage, "flow ⇄ disk"},
	{"detect", stage, "flow → finding: one folder for each detector"},
	{"trap", stage, "attacker → captured attack"},
	{"signature", stage, "captured attacks → signature; payload → score"},
	{"ask", stage, "pattern → testimony: the witness's part, the detective's part, and the sealing between them"},
	{"clearinghouse", stage, "reports of many organisations → groups of attackers"},
	{"publish", stage, "entries and signatures → one writer for each outside format"},
	{"decide", stage, "findings, entries, signatures → decision: the only judge"},
	{"contain", stage, "decision → packets let through or not"},
	{"trace", stage, "connection → the chain of hosts behind it"},
	{"console", stage, "the web console, which talks only to the node's interface (`node/api`)"},
	{"node", joiner, "what joins rooms into one organisation's node; `node/layout`: its data directory; `node/community`: the clearinghouse's role"},
	{"simulate", joiner, "spread and containment curves without packets"},
	{"reproduce", joiner, "the tables and figures of the papers, computed again"},
	{"lab", joiner, "network namespaces, recorded traffic, end-to-end tests"},
	{"cmd", joiner, "the programs: wiring, flags and output only"},
}

// bans are rules inside one room or between particular rooms; the reason is
// part of the failure.
var bans = []struct{ from, to, why string }{
	{"ask/witness", "ask/detective", "the witness part must see questions only; sharing code with the detective would let a pattern slip through"},
	{"ask/detective", "ask/witness", "the detective part must see sealed answers only"},
	{"ask/inquiry", "ask/witness", "the detective part must see sealed answers only"},
	{"ask/witness", "ask/inquiry", "the witness part must see questions only"},
	{"contain", "decide", "containment acts on Decisions handed to it; it never judges"},
	{"publish", "ask", "a publisher must not be able to name a detective or a witness"},
	{"publish", "wire/roster", "a publisher must not be able to name a member"},
	{"flow", "dossier", "what is seen must not depend on what is concluded"},
}

type pkg struct {
	ImportPath, Name, Dir, Doc         string
	Imports                            []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Doc,Imports,GoFiles,TestGoFiles,XTestGoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func room(path string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
	return top
}

// find is the position of a room in the table, and its kind; -1 for none.
func find(name string) (int, kind) {
	for i, r := range rooms {
		if r.name == name {
			return i, r.kind
		}
	}
	return -1, ""
}

// mayImport reports whether room from may import room to, and if not, why.
func mayImport(from, to string) (bool, string) {
	fromAt, fromKind := find(from)
	toAt, toKind := find(to)
	switch {
	case from == to || to == "internal":
		return true, ""
	case from == "internal":
		return false, "internal knows nothing of the domain, so it imports no room"
	case fromKind == joiner:
		return true, ""
	case toKind == joiner:
		return false, to + " joins rooms; only its like may depend on it"
	case fromKind == foundation:
		return toKind == foundation && toAt < fromAt, "a foundation imports only the foundations above it in the table of rooms"
	case fromKind == stage:
		return toKind == foundation, "a stage imports foundations and internal, never a sibling stage; declare an interface and let node pass it in"
	}
	return false, "room " + from + " is not in the table of rooms in archtest"
}

func TestImportsFollowTheData(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		if from == "internal" && strings.HasPrefix(p.ImportPath, module+"internal/gen") {
			continue // generators of reference pages read the whole program
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			if ok, why := mayImport(from, room(imp)); !ok {
				t.Errorf("%s imports %s: %s", p.ImportPath, imp, why)
			}
			for _, ban := range bans {
				if under(p.ImportPath, ban.from) && under(imp, ban.to) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, ban.why)
				}
			}
		}
	}
}

func under(path, folder string) bool {
	return path == module+folder || strings.HasPrefix(path, module+folder+"/")
}

// TestRuleBites plants violations, so that a mistake in the rule itself shows.
func TestRuleBites(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"ask", "flow", true}, {"ask", "source", false}, {"flow", "dossier", false}, {"dossier", "flow", true},
		{"node", "ask", true}, {"cmd", "node", true}, {"ask", "node", false}, {"internal", "flow", false}, {"publish", "internal", true},
		{"somewhere", "flow", false}, {"packet", "wire", false},
	} {
		if ok, _ := mayImport(c.from, c.to); ok != c.ok {
			t.Errorf("mayImport(%s, %s) = %v, want %v", c.from, c.to, ok, c.ok)
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestPackageNamesAreUsedOnce: a reader of a selector must not have to look up
// which of two packages it names.
func TestPackageNamesAreUsedOnce(t *testing.T) {
	at := map[string]string{}
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 || p.Name == "main" {
			continue
		}
		if other, ok := at[p.Name]; ok {
			t.Errorf("package %s is both %s and %s", p.Name, other, p.ImportPath)
		}
		at[p.Name] = p.ImportPath
	}
}

// unlinked names, for a program, the packages that must not be among all those
// it is linked from, and why.
var unlinked = []struct {
	program string
	roots   []string
	why     string
}{
	{"lab/incident/demo", []string{"database/sql", "modernc.org", "github.com/jackc", "github.com/ClickHouse", "connectrpc.com", "net/http"},
		"a newcomer waits for 'make demo', and these take most of the build time of dragnet"},
	{"cmd/dragnet-agent", []string{"database/sql", "modernc.org", "github.com/jackc", "github.com/ClickHouse", module + "node", module + "store"},
		"an agent is small, runs with privileges, and keeps nothing but its own state; what it says goes to the node over wire/channel"},
}

// TestAgentLinksWhatIsListed compares the packages of ours, and the modules of
// others, that dragnet-agent links with testdata/dragnet-agent, so that a new one
// is seen in review. 'make gen' writes the list again.
func TestAgentLinksWhatIsListed(t *testing.T) {
	const file = "testdata/dragnet-agent"
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{else}}{{.Module.Path}}{{end}}{{end}}", module+"cmd/dragnet-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := strings.Fields(string(out))
	slices.Sort(linked)
	want := strings.Join(slices.Compact(linked), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("dragnet-agent links other packages than %s lists; if that is meant, run 'make gen' (-linked +listed):\n%s", file, diff)
	}
}

func TestProgramsLinkNoMoreThanTheyNeed(t *testing.T) {
	for _, u := range unlinked {
		out, err := exec.Command("go", "list", "-deps", module+u.program).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for _, root := range u.roots {
				if dep == root || strings.HasPrefix(dep, root+"/") {
					t.Errorf("%s links %s: %s", u.program, dep, u.why)
				}
			}
		}
	}
}

// roleNames are types of which many packages have one; the package says of what.
var roleNames = []string{
	"Configuration", "Dependencies", "Options", "Server", "Service", "Client", "Reader", "Writer", "Decoder", "Store", "Counters", "Totals", "Stats",
}

// TestTypeNamesMeanOneThing: packages that meet, since one imports the other or
// a third that is not a program imports both, do not give one name to two types. A
// reader need not look up which Record or Report is meant.
func TestTypeNamesMeanOneThing(t *testing.T) {
	declared, meetings := exportedTypes(t), 0
	all := packages(t)
	at := map[string]bool{}
	for _, p := range all {
		at[p.ImportPath] = true
	}
	for _, p := range all {
		together := []string{p.ImportPath}
		program := slices.Contains([]string{"cmd", "lab", "reproduce", "internal"}, room(p.ImportPath))
		for _, imp := range p.Imports {
			if at[imp] {
				together = append(together, imp)
			}
		}
		names := map[string]string{}
		for i, path := range together {
			if program {
				break
			}
			for _, name := range declared[path] {
				if other, ok := names[name]; ok {
					t.Errorf("%s is a type of %s and of %s, which meet in %s; say which in one of the names", name, other, path, p.ImportPath)
				}
				names[name] = path
				meetings += i
			}
		}
	}
	if meetings == 0 {
		t.Fatal("no packages meet")
	}
}

// exportedTypes lists the exported types of each package of the field, but those
// in roleNames and generated ones.
func exportedTypes(t *testing.T) map[string][]string {
	types := map[string][]string{}
	eachFile(t, func(name string, _ *token.FileSet, file *ast.File) {
		dir := filepath.Dir(name)
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(dir, "test") || strings.HasPrefix(dir, "internal/") {
			return
		}
		for _, d := range file.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, spec := range group.Specs {
				if n := spec.(*ast.TypeSpec).Name; n.IsExported() && !slices.Contains(roleNames, n.Name) {
					types[module+dir] = append(types[module+dir], n.Name)
				}
			}
		}
	})
	return types
}

// oneRoom are the packages below node that join less than two stages, and why they
// are there all the same.
var oneRoom = map[string]string{
	"api":     "the node's own interface: its sockets, who may call, and its client",
	"agents":  "the node's own members, of all roles",
	"hunt":    "runs both parts of `ask` in one process, which neither may import",
	"notify":  "reports what several stages say, by the writers of `publish`",
	"sensors": "takes the flows of `source/sensor` from the agents' channel, whose node's side is in node/agents",
}

// TestNodeJoins: what needs a single stage belongs into it.
func TestNodeJoins(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[p.ImportPath] = p.Imports
	}
	var collect func(path string, stages map[string]bool)
	collect = func(path string, stages map[string]bool) {
		for _, imp := range imports[path] {
			if _, k := find(room(imp)); k == stage {
				stages[room(imp)] = true
			} else if room(imp) == "node" {
				collect(imp, stages)
			}
		}
	}
	for path := range imports {
		name, below := strings.CutPrefix(path, module+"node/")
		if !below || strings.HasSuffix(name, "test") {
			continue
		}
		stages := map[string]bool{}
		collect(path, stages)
		switch few := len(stages) < 2; {
		case few && oneRoom[name] == "":
			t.Errorf("%s joins %d stages; move it into the one it needs, or say in oneRoom why it is here", path, len(stages))
		case !few && oneRoom[name] != "":
			t.Errorf("%s joins %d stages; take it off oneRoom", path, len(stages))
		}
	}
}
