package enforcement

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dragnet/dossier"
	"dragnet/internal/admin"
)

// status says what is blocked, what waits for a person, and which guards are
// silent.
func (e *Enforcement) status(ctx context.Context) admin.Status {
	out := admin.Status{Part: "decisions", Level: admin.OK}
	count, err := e.deps.Ledger.Count(ctx)
	var who, why string
	if err == nil {
		_, who, why, err = e.deps.Ledger.Stopped(ctx)
	}
	if err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("the ledger cannot be read: %v", err)
		return out
	}
	e.mu.Lock()
	silent := slices.Sorted(maps.Keys(e.silent))
	alarm := e.station.Alarm()
	learning := e.station.Learning(currentTime())
	e.mu.Unlock()
	say := []string{fmt.Sprintf("%d active, %d dry run, %d wait for approval", count[dossier.Active], count[dossier.DryRun], count[dossier.Proposed])}
	if count[dossier.Proposed] > 0 {
		out.Level, out.Hint = admin.Attention, "dragnet decision list --verdict proposed"
	}
	if len(silent) > 0 {
		say = append(say, "no report recently, the last policy holds, from guards: "+strings.Join(silent, ", "))
		out.Level, out.Hint = admin.Attention, "see whether the guards run and reach this node"
	}
	if alarm {
		say = append(say, "a worm may be spreading: unusually many hosts came to their limits for the first time")
		out.Level, out.Hint = admin.Attention, "dragnet finding list; dragnet decision list --verdict proposed"
	}
	if learning != 0 {
		say = append(say, "the station learns until "+learning.String()+" which hosts fail every day, and raises no alarm before")
	}
	if who != "" {
		say = append(say, fmt.Sprintf("stopped by %s: %s", who, why))
		out.Level, out.Hint = admin.Attention, "dragnet decision resume"
	}
	out.Text = strings.Join(say, "; ")
	return out
}
