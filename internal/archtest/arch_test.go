// Package archtest fails the build when an import points against the data
// flow that ARCHITECTURE.md draws.
package archtest

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "dragnet/"

// foundations may be imported by everything below them in this list, and
// import only those above.
var foundations = []string{"flow", "dossier", "packet", "wire", "daw"}

// stages turn one noun into another; each sees the foundations only. A stage
// that needs another declares a small interface, and node or cmd passes it in.
var stages = []string{"source", "store", "detect", "trap", "signature", "ask", "clearinghouse", "publish", "decide", "contain", "trace", "api", "console"}

// joiners may import everything.
var joiners = []string{"node", "simulate", "reproduce", "lab", "cmd"}

// bans are rules inside one room or between particular rooms; the reason is
// part of the failure.
var bans = []struct{ from, to, why string }{
	{"ask/witness", "ask/detective", "the witness part must see questions only; sharing code with the detective would let a pattern slip through"},
	{"ask/detective", "ask/witness", "the detective part must see sealed answers only"},
	{"contain", "decide", "containment acts on Decisions handed to it; it never judges"},
	{"publish", "ask", "a publisher must not be able to name a detective or a witness"},
	{"flow", "dossier", "what is seen must not depend on what is concluded"},
}

type pkg struct {
	ImportPath           string
	Imports, TestImports []string
	XTestImports         []string
	Doc                  string
	GoFiles              []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Doc,GoFiles", module+"...").Output()
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

// mayImport reports whether room from may import room to, and if not, why.
func mayImport(from, to string) (bool, string) {
	switch {
	case from == to || to == "internal":
		return true, ""
	case from == "internal":
		return false, "internal holds no domain words, so it imports no room"
	case slices.Contains(joiners, from):
		return true, ""
	case slices.Contains(joiners, to):
		return false, to + " joins rooms; nothing else may depend on it"
	case slices.Contains(foundations, from):
		return slices.Contains(foundations, to) && slices.Index(foundations, to) < slices.Index(foundations, from),
			"a foundation imports only the foundations above it: " + strings.Join(foundations, " > ")
	case slices.Contains(stages, from):
		return slices.Contains(foundations, to), "a stage imports foundations and internal, never a sibling stage; declare an interface and let node pass it in"
	}
	return false, "room " + from + " is not in the plan; give it a row in archtest"
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
