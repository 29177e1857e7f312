package coresidencefigures

import (
	"context"
	"testing"

	"dragnet/detect/coresidence"
	"dragnet/internal/testkit"
	"dragnet/simulate/cloud"
)

// Masters that take turns and floods that come late hide in every pair, and in
// every machine beside the rest of its tenant. The seeds are those of tuning.
func TestMastersInTurnAreFoundByASplit(t *testing.T) {
	testkit.Long(t)
	c := large(200_000 - evasionSeed)
	c.Masters, c.Lag = 3, 3
	run, err := cloud.Simulate(c)
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	if err := o.add(context.Background(), run, 20); err != nil {
		t.Fatal(err)
	}
	if o.named != o.flooders || o.wrong > 0 {
		t.Errorf("%+v", o)
	}
}

// The keep-alives of machines that do not know of each other agree for ever if they
// agree once. Among the downloads of a tenant of eight they looked like synchrony.
func TestKeepAlivesOfLargeTenantsAreNoSynchrony(t *testing.T) {
	testkit.Long(t)
	c := large(200_000 - evasionSeed)
	c.PerTenant, c.Flooders = 8, 0
	run, err := cloud.Simulate(c)
	if err != nil {
		t.Fatal(err)
	}
	a, err := coresidence.NewActivity(run.VMs, run.Start, 1e9, 3500)
	if err != nil {
		t.Fatal(err)
	}
	a.Add(run.Flows)
	found, err := coresidence.Detect(context.Background(), a, coresidence.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	if found.Groups < 100 || len(found.Alarms) > 0 {
		t.Errorf("%d alarms about %d groups, the first %+v", len(found.Alarms), found.Groups, found.Alarms)
	}
}
