package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/durable"
)

// saved is the state that survives a restart, apart from that of the edge.
type saved struct {
	Version    int                `json:"version"`
	Orders     []dossier.Decision `json:"orders"`
	Own        []dossier.Decision `json:"own"`
	Scope      daw.Scope          `json:"scope"`
	Allow      []netip.Prefix     `json:"allow"`
	Persistent []daw.Persistent   `json:"persistent"`
}

const savedVersion = 1

// The files of a state folder.
const (
	edgeFile   = "edge.snapshot"
	guardFile  = "guard.json"
	eventsFile = "events.jsonl"
)

// Save writes the guard's state to a folder atomically.
func (g *Guard) Save(dir string) error {
	b, err := json.Marshal(saved{savedVersion, g.policyDecisions, g.own, g.scope, g.stationAllow, g.persistent})
	if err != nil {
		return fmt.Errorf("save the guard's state: %w", err)
	}
	// Decisions first: an edge that blocks an address without a decision
	// releases it.
	if err := durable.WriteFile(filepath.Join(dir, guardFile), b, 0o600); err != nil {
		return fmt.Errorf("save the guard's state: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, edgeFile), g.edge.Snapshot(), 0o600); err != nil {
		return fmt.Errorf("save the edge's counts: %w", err)
	}
	return nil
}

// Load makes a guard from a folder that Save wrote; an empty folder is a first
// start. State that cannot be used is ignored and reported in problem, and is
// no error: an edge without a guard is worse than one that counts from zero.
func Load(c Configuration, now flow.Time, dir string, event func(Action)) (g *Guard, problem, err error) {
	snapshot, err := os.ReadFile(filepath.Join(dir, edgeFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the edge's counts: %w", err)
	}
	g, err = New(c, now, snapshot, event)
	if err != nil && snapshot != nil {
		problem = fmt.Errorf("%s: %w; counting restarts from zero", filepath.Join(dir, edgeFile), err)
		g, err = New(c, now, nil, event)
	}
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, guardFile))
	if errors.Is(err, fs.ErrNotExist) {
		return g, problem, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("read the guard's state: %w", err)
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil || s.Version != savedVersion {
		return g, errors.Join(problem, fmt.Errorf("%s is damaged or of another version; it is not used", filepath.Join(dir, guardFile))), nil
	}
	return g, problem, g.restoreState(now, &s)
}

// restoreState restores saved state: the policy of the station, and blocks
// under the configured standing decision if there still is one.
func (g *Guard) restoreState(now flow.Time, s *saved) error {
	if g.stationed {
		g.policyDecisions, g.persistent = s.Orders, s.Persistent
		if s.Scope.Validate() == nil {
			g.scope = s.Scope
		}
		g.stationAllow = s.Allow
		g.allow = append(slices.Clone(g.c.Allow), s.Allow...)
		g.chooseStanding(now)
	}
	if g.configured.ID != "" {
		g.own = s.Own
	}
	for _, d := range g.allDecisions() {
		if d.Verdict == dossier.Active && isBlocking(now, &d) {
			g.inForce[d.ID] = true
		}
	}
	g.reconcileBlocks(now)
	return g.edge.SetScope(g.exemptedScope())
}
