package failures_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/detect/failures"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
)

// oneCase is traffic of which it is known whether it has a scanner.
type oneCase struct {
	name  string
	scan  bool
	flows []flow.Flow
}

// isSetAside is the rule of testdata/README.md: written before the detector was
// tuned.
func isSetAside(dir, base string) bool {
	if dir == "testdata" {
		return strings.HasPrefix(base, "fourth-")
	}
	return sha256.Sum256([]byte(base))[0]%2 == 1
}

// captureCases reads all captures below dir that are (not) set aside.
func captureCases(t testing.TB, dir string, aside bool) []oneCase {
	t.Helper()
	var all []oneCase
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		base := filepath.Base(path)
		if err != nil || e.IsDir() || !strings.Contains(base, ".pcap") || isSetAside(filepath.Base(dir), base) != aside {
			return err
		}
		c := oneCase{name: filepath.Base(dir) + "/" + base, scan: strings.Contains(base, "scan-")}
		if log, err := tryRead(path); err == nil {
			c.flows = log
			all = append(all, c)
		} else {
			t.Logf("%s: %v", base, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// zeekScanners is Zeek's policy/misc/scan: 25 hosts that one source failed to
// reach on one port, or 15 ports of one host, within 5 minutes.
func zeekScanners(flows []flow.Flow) map[netip.Addr]bool {
	type group struct {
		orig, victim netip.Addr
		port         uint16
	}
	last := map[group]map[string]flow.Time{}
	found := map[netip.Addr]bool{}
	count := func(g group, target string, at flow.Time, need int) {
		if last[g] == nil {
			last[g] = map[string]flow.Time{}
		}
		last[g][target] = at
		n := 0
		for _, seen := range last[g] {
			if at-seen <= flow.Time(5*time.Minute) {
				n++
			}
		}
		if n >= need {
			found[g.orig] = true
		}
	}
	for _, f := range sorted(flows) {
		if f.Proto != flow.TCP || found[f.Orig] || !slices.Contains([]flow.State{flow.REJ, flow.S0, flow.RSTOS0, flow.SH}, f.State) {
			continue
		}
		count(group{orig: f.Orig, port: f.RespPort}, f.Resp.String(), f.Start, 25)
		count(group{orig: f.Orig, victim: f.Resp}, fmt.Sprint(f.RespPort), f.Start, 15)
	}
	return found
}

// trwScanners is Threshold Random Walk (Jung et al. 2004) with its published
// values: first contacts of distinct hosts succeed with 0.8 from benign sources
// and 0.2 from scanners; alpha 0.01, beta 0.01.
func trwScanners(flows []flow.Flow) map[netip.Addr]bool {
	seen := map[[2]netip.Addr]bool{}
	ratio, decided, found := map[netip.Addr]float64{}, map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, f := range sorted(flows) {
		s := failures.SignalOf(&f)
		pair := [2]netip.Addr{f.Orig, f.Resp}
		if s == failures.Nothing || seen[pair] || decided[f.Orig] {
			continue
		}
		seen[pair] = true
		if ratio[f.Orig] == 0 {
			ratio[f.Orig] = 1
		}
		if s == failures.Success {
			ratio[f.Orig] *= 0.25
		} else {
			ratio[f.Orig] *= 4
		}
		if r := ratio[f.Orig]; r >= 99 {
			decided[f.Orig], found[f.Orig] = true, true
		} else if r <= 1./99 {
			decided[f.Orig] = true
		}
	}
	return found
}

func ourScanners(flows []flow.Flow) map[netip.Addr]bool {
	d := failures.New(failures.DefaultConfiguration())
	d.Add(flows)
	found := map[netip.Addr]bool{}
	for _, f := range d.Findings() {
		found[f.Addr] = true
	}
	return found
}

func sorted(flows []flow.Flow) []flow.Flow {
	return slices.SortedStableFunc(slices.Values(flows), func(a, b flow.Flow) int { return cmp.Compare(a.Start, b.Start) })
}

// table judges cases by our rule, Zeek's and TRW, and prints it.
func table(t *testing.T, cases []oneCase) (missed, accused []string) {
	text := fmt.Sprintf("\n%-55s %7s %5s %5s %5s\n", "case", "flows", "ours", "zeek", "trw")
	var right [3][2]int
	var total [2]int
	for _, c := range cases {
		n := [3]int{len(ourScanners(c.flows)), len(zeekScanners(c.flows)), len(trwScanners(c.flows))}
		kind := 0
		if c.scan {
			kind = 1
		}
		total[kind]++
		for i := range n {
			if n[i] > 0 {
				right[i][kind]++
			}
		}
		if c.scan && n[0] == 0 {
			missed = append(missed, c.name)
		}
		if !c.scan && n[0] > 0 {
			accused = append(accused, c.name)
		}
		if c.scan || n != [3]int{} || strings.HasPrefix(c.name, "testdata") {
			text += fmt.Sprintf("%-55s %7d %5d %5d %5d\n", c.name, len(c.flows), n[0], n[1], n[2])
		}
	}
	for i, who := range []string{"ours", "zeek", "trw"} {
		text += fmt.Sprintf("%s: %d of %d scans found, accuses in %d of %d benign cases\n", who, right[i][1], total[1], right[i][0], total[0])
	}
	t.Log(text)
	return missed, accused
}

func allCases(t *testing.T, aside bool) []oneCase {
	all := captureCases(t, "testdata", aside)
	for _, dir := range []string{testkit.Data(t, "ndpi"), testkit.Data(t, "zeek-traces", "Traces"), testkit.Data(t, "benign")} {
		if !aside || filepath.Base(dir) != "benign" {
			all = append(all, captureCases(t, dir, aside)...)
		}
	}
	hour := "conn.15-00-00-16-00-00.log.gz"
	if aside {
		hour = "conn.16-00-00-17-00-00.log.gz"
	}
	c := oneCase{name: "proxy_rolling/" + hour}
	c.flows, _ = tryRead(testkit.Data(t, "zeek-logs", "proxy_rolling", hour))
	return append(all, c)
}

// The cases on which the detector was tuned.
func TestCasesForTuning(t *testing.T) {
	if missed, accused := table(t, allCases(t, false)); len(missed)+len(accused) > 0 {
		t.Errorf("missed %v, accused %v", missed, accused)
	}
}

// The cases set aside before.
func TestCasesSetAside(t *testing.T) {
	if missed, accused := table(t, allCases(t, true)); len(missed)+len(accused) > 0 {
		t.Errorf("missed %v, accused %v", missed, accused)
	}
}

func tryRead(path string) (all []flow.Flow, err error) {
	log, err := ingest.Open(path)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // batches come from several goroutines
	_, err = log.Scan(context.Background(), flow.AllTime, failures.Columns, func(flows []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, flows...)
		return nil
	})
	return all, err
}
