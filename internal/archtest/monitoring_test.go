package archtest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dragnet/internal/testkit"
)

const (
	rulesFile     = "../../packaging/prometheus/dragnet.rules.yml"
	rulesTest     = "../../packaging/prometheus/dragnet.test.yml"
	dashboardFile = "../../packaging/grafana/dragnet.json"
)

// metricNames are the names of all metrics: prefixes of metric.Under, and the names
// that are made in the same package.
func metricNames(t *testing.T) map[string]bool {
	prefixes, names := map[string][]string{}, map[string][]string{}
	eachFile(t, func(name string, _ *token.FileSet, file *ast.File) {
		dir := filepath.Dir(name)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch f.Sel.Name {
			case "Under":
				if s, ok := stringLiteral(call.Args[1]); ok {
					prefixes[dir] = append(prefixes[dir], s)
				}
			case "Counter", "CounterFunc", "Counters", "Gauge", "GaugeFunc", "Gauges":
				if s, ok := stringLiteral(call.Args[0]); ok {
					names[dir] = append(names[dir], s)
				}
			case "Histogram", "Histograms":
				if s, ok := stringLiteral(call.Args[0]); ok {
					names[dir] = append(names[dir], s+"_bucket", s+"_sum", s+"_count")
				}
			}
			return true
		})
	})
	out := map[string]bool{}
	for dir, all := range prefixes {
		for _, prefix := range all {
			for _, name := range names[dir] {
				out[prefix+name] = true
			}
		}
	}
	return out
}

func stringLiteral(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// dashboardExpressions are the queries of all panels.
func dashboardExpressions(t *testing.T) []string {
	var board struct {
		Panels []struct {
			Type, Title, Description string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readPage(t, dashboardFile)), &board); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q: needs a title, a description and a query", p.Title)
		}
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	if len(out) == 0 {
		t.Fatal("the dashboard asks for nothing")
	}
	return out
}

// TestMonitoringNamesMetricsThatExist: alerts and dashboard.
func TestMonitoringNamesMetricsThatExist(t *testing.T) {
	known := metricNames(t)
	if len(known) < 50 {
		t.Fatalf("only %d metrics were found in the code", len(known))
	}
	text := readPage(t, rulesFile) + strings.Join(dashboardExpressions(t), "\n")
	for _, name := range regexp.MustCompile(`\bdragnet_[a-z0-9_]+`).FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("%s: no such metric", name)
		}
	}
}

// TestPrometheusTakesRulesAndQueries: promtool checks the alerts, runs their tests,
// and parses what the dashboard asks for.
func TestPrometheusTakesRulesAndQueries(t *testing.T) {
	promtool := testkit.Tool(t, "promtool")
	dir := t.TempDir()
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	variables := strings.NewReplacer("$instance", ".*", "$__rate_interval", "5m")
	for i, e := range dashboardExpressions(t) {
		fmt.Fprintf(&rules, "  - record: query%d\n    expr: %q\n", i, variables.Replace(e))
	}
	queries := filepath.Join(dir, "dashboard.yml")
	if err := os.WriteFile(queries, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", queries}, {"check", "rules", rulesFile}, {"test", "rules", rulesTest},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
