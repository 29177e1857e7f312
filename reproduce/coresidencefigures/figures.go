package coresidencefigures

import (
	"context"
	"fmt"
	"math"
	"time"

	"dragnet/detect/coresidence"
	"dragnet/detect/synchrony"
	"dragnet/flow"
	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/cloud"
)

// after are the numbers of tests at which detection starts (figure 5).
var after = []int{1, 2, 3, 5, 7, 10, 15, 20, 30, 40}

// certain is the mean alpha_min below which the attacker believes.
const certain = 0.2

func figures(ctx context.Context, env report.Environment) (*report.Report, error) {
	r := report.New(All()[1])
	var curves, times []plot.Drawing
	race := raceTable()
	for _, rate := range rates {
		simulated, err := overTests(ctx, rate.name, repetitions, after, func(seed uint64) (trial, error) {
			env.Progress("detection over time of the "+rate.name+" attack", 1)
			return simulateTrial(seed, rate.high, rounds)
		})
		if err != nil {
			return nil, err
		}
		flows, sessions, err := rocCharts(ctx, rate.name, repetitions, func(seed uint64) (trial, error) {
			env.Progress("ROC curves of the "+rate.name+" attack", 1)
			return simulateTrial(seed, rate.high, rounds/2)
		})
		if err != nil {
			return nil, err
		}
		curves = append(curves, flows, sessions)
		r.Tables = append(r.Tables, simulated.table())
		race.Rows = append(race.Rows, simulated.raceRow("simulated", rate.name))
		times = append(times, simulated.certainty(), simulated.race())
		if env.Lab.Runs == 0 {
			continue
		}
		real, err := labFigures(ctx, env, rate.name, rate.high)
		if err != nil {
			return nil, err
		}
		curves = append(curves, real.flows, real.sessions)
		r.Tables = append(r.Tables, real.over.table())
		race.Rows = append(race.Rows, real.over.raceRow("Open vSwitch", rate.name))
		times = append(times, real.over.certainty(), real.over.race())
	}
	r.Tables = append(r.Tables, race)
	r.Plots = append(r.Plots,
		report.Plot{Name: "coresidence-figures-3-4", Title: "Figures 3 and 4: detection by flows and by sessions", Columns: 2, Drawings: curves},
		report.Plot{Name: "coresidence-figures-2-5", Title: "Figures 2 and 5: the attacker's certainty, and detection by times", Columns: 2, Drawings: times})
	r.Say("Figure 2: the mean of alpha_min is far lower for the co-resident flooder than for the other, and the more so at high rate, as in the paper. In the paper it falls with the number of tests; here the tests are independent of each other, so that the mean settles instead, and what falls is the chance to mistake one flooder for the other. The simulated channel of the attacker is a model of ours (Poisson arrivals in 20 intervals of 50 ms, slowed to 80 %% or 40 %%, with other traffic on a third of the measurements); on Open vSwitch the arrivals of real downloads are counted.")
	r.Say("Figure 5: the paper reports that TPR goes to 100 %% and FPR to 0 %% as tests are made, by thresholds on Pearson's correlation that it does not give. 'Pearson' uses mean plus four standard deviations over the pairs of a run without attack. 'Here' is the test on onsets at a false discovery rate of 1 %%, with the victim excused; a flooder is found when it and the master are both named in alarms of the tenant, and false alarms are pairs not wholly the attacker's.")
	r.Say("Time to verify against time to detect, the paper's future work, from the same runs: the attacker has verified after the first number of tests at which the mean of alpha_min is below %v for the co-resident flooder and not for the other, although more tests may shake that again (see the tables), and is detected after the first at which all flooders are named; 'never' is the median of runs if half of them never are. Seeds of simulated runs: %d to %d without attack, %d to %d with it. Intervals are Wilson's 95 %%.", certain, trainSeed, trainSeed+repetitions-1, testSeed, testSeed+repetitions-1)
	sayLab(r, env)
	return r, nil
}

// grid are the false positive rates at which curves are averaged.
func grid() (fpr []float64) {
	for k := range 51 {
		fpr = append(fpr, float64(k)/50)
	}
	return fpr
}

func rocCharts(ctx context.Context, name string, runs int, run func(seed uint64) (trial, error)) (flows, sessions plot.Chart, err error) {
	var all []judged
	for seed := range uint64(runs) {
		if err := ctx.Err(); err != nil {
			return flows, sessions, err
		}
		t, err := run(seed)
		if err != nil {
			return flows, sessions, err
		}
		scored, err := judge(t)
		if err != nil {
			return flows, sessions, err
		}
		all = append(all, scored)
	}
	flows, sessions = drawROC(name, all)
	return flows, sessions, nil
}

// drawROC averages the curves of runs.
func drawROC(name string, runs []judged) (flows, sessions plot.Chart) {
	at := grid()
	sums := map[string][]float64{}
	for _, scored := range runs {
		for method, s := range scored {
			if sums[method] == nil {
				sums[method] = make([]float64, len(at))
			}
			for k, v := range rocOf(*s).tprOn(at) {
				sums[method][k] += v / float64(len(runs))
			}
		}
	}
	chart := func(title string) plot.Chart {
		return plot.Chart{Title: title + ", " + name, X: plot.Axis{Label: "FPR", Max: 1}, Y: plot.Axis{Label: "TPR", Max: 1}}
	}
	flows, sessions = chart("Figure 3: flow domain"), chart("Figure 4: session domain")
	for _, m := range flowMethods {
		flows.Series = append(flows.Series, plot.Series{Name: string(m), X: at, Y: sums[string(m)]})
	}
	for _, m := range sessionMethods {
		sessions.Series = append(sessions.Series, plot.Series{Name: m, X: at, Y: sums[m]})
	}
	return flows, sessions
}

// tally counts, after a number of tests, over all runs.
type tally struct {
	tests, runs                       int
	resident, other                   float64 // sums of mean alpha_min
	verified                          int     // runs
	flooders, found, foundPearson     int
	pairs, wrong, normal, overPearson int
	allFound                          int // runs with every flooder found
}

// overTime is how runs went on with the number of tests.
type overTime struct {
	name   string
	after  []tally
	firsts []first
}

// first is when a run's attacker had verified, and was detected: numbers of tests and
// time since the attack began; 0 is never.
type first struct {
	verified, detected     int
	verifiedIn, detectedIn time.Duration
}

// overTests looks at each run after each number of tests.
func overTests(ctx context.Context, name string, runs int, numbers []int, run func(seed uint64) (trial, error)) (overTime, error) {
	o := overTime{name: name, after: make([]tally, len(numbers))}
	for k, n := range numbers {
		o.after[k].tests = n
	}
	for seed := range uint64(runs) {
		t, err := run(seed)
		if err != nil {
			return o, err
		}
		if err := o.add(ctx, t); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *overTime) add(ctx context.Context, t trial) error {
	threshold, err := pearsonThreshold(t)
	if err != nil {
		return err
	}
	var f first
	for k := range o.after {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := &o.after[k]
		x.runs++
		verified, found := x.verified, x.allFound
		x.certainty(t.test)
		if err := x.detect(ctx, t, threshold); err != nil {
			return err
		}
		since := time.Duration(t.test.Ends[x.tests-1] - t.test.Start)
		if x.verified > verified && f.verified == 0 {
			f.verified, f.verifiedIn = x.tests, since
		}
		if x.allFound > found && f.detected == 0 {
			f.detected, f.detectedIn = x.tests, since
		}
	}
	o.firsts = append(o.firsts, f)
	return nil
}

func (t *tally) certainty(run *cloud.Run) {
	a, b := meanLevel(run.Levels[0], t.tests), meanLevel(run.Levels[1], t.tests)
	t.resident += a
	t.other += b
	if a < certain && b >= certain {
		t.verified++
	}
}

func (t *tally) detect(ctx context.Context, tr trial, threshold float64) error {
	run := tr.test
	a, err := tr.activity(run, run.Ends[t.tests-1])
	if err != nil {
		return err
	}
	result, err := coresidence.Detect(ctx, a, coresidence.DefaultConfiguration())
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, alarm := range result.Alarms {
		if alarm.ExplainedBy != nil {
			continue
		}
		if !alarm.SameTenant || alarm.VM.Tenant != run.Tenant {
			t.wrong++
			continue
		}
		for _, vm := range alarm.Machines() {
			named[vm.Name] = true
		}
	}
	t.pairs += result.SamePairs + result.CrossPairs
	found := 0
	for k := range run.Flooders {
		if named["master"] && named[fmt.Sprintf("flooder-%d", k)] {
			found++
		}
	}
	t.flooders += len(run.Flooders)
	t.found += found
	if found == len(run.Flooders) {
		t.allFound++
	}
	t.pearson(a, run, threshold)
	return nil
}

// pearson counts the pairs whose correlation is above threshold: of the master and
// a flooder, and of two machines of which one is not the attacker's.
func (t *tally) pearson(a *coresidence.Activity, run *cloud.Run, threshold float64) {
	for i, x := range run.VMs {
		for j, y := range run.VMs[:i] {
			rho, ok := synchrony.Pearson(a.Share(i), a.Share(j))
			above := ok && rho > threshold
			switch {
			case x.Tenant != run.Tenant || y.Tenant != run.Tenant:
				t.normal++
				if above {
					t.overPearson++
				}
			case y.Name == "master" && x.Name != "sink" && above:
				t.foundPearson++
			}
		}
	}
}

// activity is that of all machines until end.
func (t *trial) activity(run *cloud.Run, end flow.Time) (*coresidence.Activity, error) {
	a, err := coresidence.NewActivity(run.VMs, run.Start, t.interval, int(time.Duration(end-run.Start)/t.interval)+1)
	if err != nil {
		return nil, err
	}
	a.Add(run.Flows)
	return a, nil
}

// pearsonThreshold is mean plus four standard deviations of the correlations in the
// run without attack.
func pearsonThreshold(t trial) (float64, error) {
	a, err := t.activity(t.train, t.train.Ends[len(t.train.Ends)-1]-1)
	if err != nil {
		return 0, err
	}
	var rhos []float64
	for i := range t.train.VMs {
		for j := range i {
			if rho, ok := synchrony.Pearson(a.Share(i), a.Share(j)); ok {
				rhos = append(rhos, rho)
			}
		}
	}
	mean, half := meanOf(rhos)
	return mean + 4*half/1.96*math.Sqrt(float64(len(rhos))), nil
}
