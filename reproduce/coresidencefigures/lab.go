package coresidencefigures

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"dragnet/detect/coresidence"
	"dragnet/internal/plot"
	"dragnet/lab/cloudlab"
	"dragnet/reproduce/report"
	"dragnet/simulate/cloud"
)

// labSeed is that of the first run on switches. It decides who does what when; how
// long that takes is up to the machine.
const labSeed = 63_000

// runTrial builds the paper's test bed of namespaces and bridges, watches it for a
// quarter of the time that the attack takes, and then attacks.
func runTrial(ctx context.Context, env report.Environment, seed uint64, high bool) (t trial, err error) {
	c := cloudlab.Paper()
	c.Rounds, c.HighRate, c.Seed = env.Lab.Rounds, high, labSeed+seed
	w, err := cloudlab.New(ctx, c)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	t = trial{interval: c.Interval, session: shortSessions * c.Interval}
	round := time.Duration(1+c.Flooders) * 26 * c.Interval / 5
	if t.train, err = w.Observe(max(20*c.Interval, time.Duration(c.Rounds)*round/4)); err != nil {
		return t, err
	}
	env.Progress("runs on Open vSwitch, without and with attack", 1)
	if t.test, err = w.Attack(); err != nil {
		return t, err
	}
	env.Progress("runs on Open vSwitch, without and with attack", 1)
	countOnce(t.train)
	countOnce(t.test)
	return t, nil
}

// countOnce leaves out flows that several bridges exported.
func countOnce(run *cloud.Run) {
	attack := map[[2]netip.Addr]bool{}
	for i, f := range run.Flows {
		if run.Attack[i] {
			attack[[2]netip.Addr{f.Orig, f.Resp}] = true
		}
	}
	run.Flows, run.Attack = coresidence.Unique(run.Flows), nil
	for _, f := range run.Flows {
		run.Attack = append(run.Attack, attack[[2]netip.Addr{f.Orig, f.Resp}])
	}
}

// labResult is what the runs on switches give for the figures.
type labResult struct {
	flows, sessions plot.Chart
	over            overTime
}

func labFigures(ctx context.Context, env report.Environment, name string, high bool) (r labResult, err error) {
	name += ", Open vSwitch"
	var scored []judged
	var numbers []int
	for _, n := range after {
		if n <= env.Lab.Rounds {
			numbers = append(numbers, n)
		}
	}
	r.over, err = overTests(ctx, name, env.Lab.Runs, numbers, func(seed uint64) (trial, error) {
		t, err := runTrial(ctx, env, seed, high)
		if err != nil {
			return t, err
		}
		s, err := judge(t)
		scored = append(scored, s)
		return t, err
	})
	if err != nil {
		return r, err
	}
	r.flows, r.sessions = drawROC(name, scored)
	return r, nil
}

// sayLab says what was run on switches.
func sayLab(r *report.Report, env report.Environment) {
	if env.Lab.Runs == 0 {
		r.Say("Nothing was run on switches: --lab RUNS does that, as root, with Open vSwitch.")
		return
	}
	c := cloudlab.Paper()
	r.Say("Open vSwitch: %d runs of %d rounds for each attack, with seeds from %d: %d bridges as servers, %d web servers, %d clients inside and %d outside, and the attacker's %d machines, all of them network namespaces; the bridges export by %s, %d Mbit/s uplinks are shared, intervals have %s. A quarter of the time each cloud is watched without attack, to learn from. With few runs their intervals are wide; of a single one there is none.",
		env.Lab.Runs, env.Lab.Rounds, labSeed, c.Bridges, c.Servers, c.Inside, c.Outside, 2+c.Flooders, c.Export, c.Uplink, c.Interval)
}
