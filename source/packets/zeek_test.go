package packets

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// TestFlowsAreThoseZeekLogs compares with the connection logs that Zeek's own
// tests expect, column by column, for each of its tests whose trace is at
// hand.
func TestFlowsAreThoseZeekLogs(t *testing.T) {
	root := testkit.Data(t, "zeek-traces")
	absent := 0
	for _, c := range zeekTests {
		trace := filepath.Join(root, "Traces", c.trace)
		if _, err := os.Stat(trace); err != nil {
			absent++
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			want := baseline(t, filepath.Join(root, "conn-log-baselines", c.name+".conn.log"), c.how)
			got := logged(t, trace, c.how)
			if diff := want.compare(got); diff != "" {
				t.Errorf("zeek %s:\n%s", c.how, diff)
			}
		})
	}
	t.Logf("%d of %d traces are not in %s", absent, len(zeekTests), root)
}

// TestWhereFlowsDifferFromZeek keeps the list of known differences honest: a
// test that has come to agree must leave it.
func TestWhereFlowsDifferFromZeek(t *testing.T) {
	root := testkit.Data(t, "zeek-traces")
	for _, c := range zeekDifferences {
		trace := filepath.Join(root, "Traces", c.trace)
		if _, err := os.Stat(trace); err != nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			want := baseline(t, filepath.Join(root, "conn-log-baselines", c.name+".conn.log"), c.how)
			if want.compare(logged(t, trace, c.how)) == "" {
				t.Errorf("agrees with Zeek although %q; move it to the tests that must", c.why)
			}
		})
	}
}

// logged assembles a trace as Zeek would when run that way.
func logged(t *testing.T, trace string, how options) []flow.Flow {
	t.Helper()
	l, err := Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	l.Checksums = VerifyChecksums
	if how&ignoreChecksums != 0 {
		l.Checksums = IgnoreChecksums
	}
	if how&bare != 0 {
		l.Config.ServerPorts = slices.DeleteFunc(l.Config.ServerPorts, func(p Port) bool { return !tunnelPorts[p.Number] })
	}
	var flows []flow.Flow
	_, err = l.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		for _, f := range batch {
			if how&outside == 0 || !tunnelProtos[f.Proto] {
				flows = append(flows, f)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

// tunnelPorts are known to Zeek even without its protocol scripts.
var tunnelPorts = map[uint16]bool{2123: true, 2152: true, 3544: true, 4754: true, 4789: true, 5072: true, 6081: true}

// tunnelProtos are what Zeek unwraps and does not log: IP in IP, 6in4, GRE.
var tunnelProtos = map[flow.Proto]bool{4: true, 41: true, 47: true}

// connLog is an expected log: the columns it has, and its rows in order.
type connLog struct {
	columns []string
	rows    []string
}

// columns maps Zeek's names to what a flow holds. Zeek leaves duration and
// sizes out where a connection has a single packet.
var columns = map[string]func(*flow.Flow) string{
	"id.orig_h": func(f *flow.Flow) string { return f.Orig.String() },
	"id.orig_p": func(f *flow.Flow) string { return strconv.Itoa(int(f.OrigPort)) },
	"id.resp_h": func(f *flow.Flow) string { return f.Resp.String() },
	"id.resp_p": func(f *flow.Flow) string { return strconv.Itoa(int(f.RespPort)) },
	"proto": func(f *flow.Flow) string {
		switch f.Proto {
		case flow.TCP, flow.UDP:
			return f.Proto.String()
		case flow.ICMP, flow.ICMPv6:
			return "icmp"
		}
		return "unknown_transport"
	},
	"duration": func(f *flow.Flow) string {
		return ifLasting(f, strconv.FormatFloat(f.Duration.Seconds(), 'f', 6, 64))
	},
	"orig_bytes":    func(f *flow.Flow) string { return ifLasting(f, fmt.Sprint(f.OrigBytes)) },
	"resp_bytes":    func(f *flow.Flow) string { return ifLasting(f, fmt.Sprint(f.RespBytes)) },
	"conn_state":    func(f *flow.Flow) string { return f.State.String() },
	"missed_bytes":  func(f *flow.Flow) string { return fmt.Sprint(f.MissedBytes) },
	"history":       func(f *flow.Flow) string { return cmp.Or(f.History, "-") },
	"orig_pkts":     func(f *flow.Flow) string { return fmt.Sprint(f.OrigPkts) },
	"orig_ip_bytes": func(f *flow.Flow) string { return fmt.Sprint(f.OrigIPBytes) },
	"resp_pkts":     func(f *flow.Flow) string { return fmt.Sprint(f.RespPkts) },
	"resp_ip_bytes": func(f *flow.Flow) string { return fmt.Sprint(f.RespIPBytes) },
	"ip_proto":      func(f *flow.Flow) string { return strconv.Itoa(int(f.Proto)) },
}

func ifLasting(f *flow.Flow, s string) string {
	if f.Duration <= 0 {
		return "-"
	}
	return s
}

// baseline reads an expected log: Zeek's own format, or the columns that
// zeek-cut printed below their names.
func baseline(t *testing.T, path string, how options) connLog {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var log connLog
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "\t")
		switch {
		case cells[0] == "#fields":
			names = cells[1:]
		case strings.HasPrefix(cells[0], "#"):
		case names == nil:
			names = cells
		case len(cells) != len(names):
			t.Fatalf("%s: %d cells under %d names: %q", path, len(cells), len(names), cells)
		default:
			if i := slices.Index(names, "tunnel_parents"); how&outside == 0 || i < 0 || cells[i] == "-" {
				log.rows = append(log.rows, log.pick(names, cells))
			}
		}
	}
	if len(log.rows) == 0 && how&outside == 0 {
		t.Fatalf("%s has nothing to compare", path)
	}
	slices.Sort(log.rows)
	return log
}

// pick keeps the cells that can be compared, and notes their names.
func (l *connLog) pick(names, cells []string) string {
	l.columns = l.columns[:0]
	var row []string
	for i, name := range names {
		name = strings.Replace(name, "id_", "id.", 1) // a test renames them
		if columns[name] == nil {
			continue
		}
		l.columns = append(l.columns, name)
		row = append(row, cells[i])
	}
	return strings.Join(row, "\t")
}

// compare is empty when the flows are those of the log, in any order.
func (l *connLog) compare(flows []flow.Flow) string {
	var rows []string
	for i := range flows {
		var row []string
		for _, name := range l.columns {
			row = append(row, columns[name](&flows[i]))
		}
		rows = append(rows, strings.Join(row, "\t"))
	}
	slices.Sort(rows)
	balance := map[string]int{}
	for _, r := range rows {
		balance[r]++
	}
	for _, r := range l.rows {
		balance[r]--
	}
	var diff []string
	for r, n := range balance {
		switch {
		case n > 0:
			diff = append(diff, r+"  <- ours")
		case n < 0:
			diff = append(diff, r+"  <- Zeek's")
		}
	}
	if len(diff) == 0 {
		return ""
	}
	slices.Sort(diff)
	return strings.Join(l.columns, " ") + "\n" + strings.Join(diff[:min(len(diff), 12)], "\n")
}
