package wormfigures

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

func small(t *testing.T, do func(*reproduction) error) *report.Report {
	t.Helper()
	x := &reproduction{ctx: context.Background(), env: report.Environment{Progress: func(string, int) {}}, Report: report.New(report.Reproduction{Name: "x"}),
		size: size{seeds: 12, few: 6, points: 2, worlds: []world{{10000, 10}}}}
	if testkit.Short(t) {
		x.size.seeds, x.size.few = 6, 3
	}
	if err := do(x); err != nil {
		t.Fatal(err)
	}
	if len(x.Tables) == 0 || len(x.Plots) == 0 || len(x.Text) == 0 {
		t.Fatalf("%d tables, %d plots, %d paragraphs", len(x.Tables), len(x.Plots), len(x.Text))
	}
	for _, table := range x.Tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: row %v under header %v", table.Title, row, table.Header)
			}
		}
	}
	return x.Report
}

// The closed form meets all 32 cells of Table 2-2 within 3 %.
func TestClosedFormMeetsTable22(t *testing.T) {
	for _, row := range published22 {
		for i, phi := range phis22 {
			got := worm.TableTime(share5, float64(row.k), row.z, phi, 2, 1<<32) / worm.Day
			if math.Abs(got/row.days[i]-1) > 0.03 {
				t.Errorf("%v Phi %g: closed form %.1f, published %.1f", row.world, phi, got, row.days[i])
			}
		}
	}
}

// The mean field with Phi a day gives the 80 days of Figure 2-2.
func TestMeanFieldMeetsFigure22(t *testing.T) {
	got, err := worm.MeanField(share5, 10000, 10, 1<<32, func(float64) float64 { return 3000 / worm.Day }, 0, 300*worm.Day)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got/worm.Day-80) > 2 {
		t.Errorf("%.1f days, want 80", got/worm.Day)
	}
}

// With phi failing scans per network and day, the simulation meets the published
// cells where z = 20.
func TestSimulationMeetsTable22(t *testing.T) {
	for _, row := range published22 {
		if row.z != 20 || row.k != 10000 && testkit.Short(t) {
			continue
		}
		c := configurationFor(row.world, worm.Spatial, worm.Once)
		x := &reproduction{ctx: context.Background(), env: report.Environment{Progress: func(string, int) {}}, size: size{seeds: 60}}
		q, err := x.daysTo(share5, c)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(q.Median/row.days[1]-1) > 0.15 {
			t.Errorf("%v: median %.1f days, published %.1f", row.world, q.Median, row.days[1])
		}
	}
}

func TestFigure22OrdersTheDefences(t *testing.T) {
	r := small(t, figure22)
	median := func(row int) float64 {
		v, err := strconv.ParseFloat(strings.Fields(r.Tables[0].Rows[row][3])[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	seconds := []float64{median(0) * 60, median(1) * 3600, median(2) * worm.Day, median(3) * worm.Day}
	for i := 1; i < len(seconds); i++ {
		if seconds[i] <= seconds[i-1] {
			t.Errorf("times to 5 %%: %v; each defence must be slower than the one before", seconds)
		}
	}
	if share := median(4); share > 0.01 {
		t.Errorf("full DAW: %g infected, want next to nothing", share)
	}
}

func TestTimesFallWithLooserLimits(t *testing.T) {
	for name, do := range map[string]func(*reproduction) error{"2-3": figure23, "2-4": figure24} {
		rows := small(t, do).Tables[0].Rows
		first, _ := strconv.ParseFloat(strings.Fields(rows[0][4])[0], 64)
		second, _ := strconv.ParseFloat(strings.Fields(rows[1][4])[0], 64)
		if ratio := first / second; ratio < 1.5 || ratio > 2.6 {
			t.Errorf("figure %s: twice the limit makes the worm %.2f times faster, want about 2", name, ratio)
		}
	}
}

// With a tenth of the replies and the published limits the worm wins; limits scaled
// by the share of replies hold it.
func TestFewReplies(t *testing.T) {
	x := &reproduction{ctx: context.Background(), env: report.Environment{Progress: func(string, int) {}}, Report: report.New(report.Reproduction{Name: "x"}), size: size{seeds: 6, few: 8}}
	for _, scaled := range []bool{false, true} {
		q, stopped, _, err := x.finalShare(world{10000, 10}, 0.1, scaled)
		if err != nil {
			t.Fatal(err)
		}
		if scaled != (q.Median < 0.05) || scaled && stopped < 6 || !scaled && q.Median < 0.8 {
			t.Errorf("scaled %v: %.3g infected, %d of 8 stopped", scaled, q.Median, stopped)
		}
	}
}

func TestBlockingFigures(t *testing.T) {
	rows := small(t, figure25).Tables[0].Rows
	if v, _ := strconv.ParseFloat(strings.Fields(rows[0][4])[0], 64); v > 0.001 {
		t.Errorf("n = 1: %g infected, the worm should stop at once", v)
	}
	small(t, figure26)
}

func TestTable21StaysBelowOmega(t *testing.T) {
	x := &reproduction{ctx: context.Background(), Report: report.New(report.Reproduction{Name: "x"}), env: report.Environment{Data: testkit.Data(t), Progress: func(string, int) {}}}
	if err := table21(x); err != nil {
		t.Fatal(err)
	}
	rows := x.Tables[0].Rows
	if len(rows) != 6 {
		t.Fatalf("%d rows, want the paper's 3 and our 3", len(rows))
	}
	for _, row := range rows[3:] {
		if worst, err := strconv.Atoi(row[4]); err != nil || worst > 63 {
			t.Errorf("%s: worst host %s, want at most the paper's 63", row[0], row[4])
		}
	}
}
