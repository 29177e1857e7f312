package enforcement

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"dragnet/flow"
	"dragnet/internal/durable"
)

// saveEvery is how often the station is saved, besides at the end.
const saveEvery = flow.Time(10 * time.Minute)

// loadStation has the station go on with what an earlier run learnt. Without it, it
// learns again, which takes a day without alarms; the log says so.
func (e *Enforcement) loadStation() {
	e.started, e.saved = true, currentTime()
	if e.deps.Station == "" {
		return
	}
	b, err := os.ReadFile(e.deps.Station)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		err = e.station.Load(b)
	}
	if err != nil {
		e.log.Warn("what the station had learnt of offenders cannot be used; it learns again, without alarms meanwhile", "err", err, "learn", e.c.Station.Learn)
	}
}

func (e *Enforcement) saveStation() {
	if e.deps.Station == "" || len(e.c.Agents) == 0 {
		return
	}
	e.mu.Lock()
	b, err := e.station.Save()
	e.mu.Unlock()
	if err == nil {
		err = durable.WriteFile(e.deps.Station, b, 0o600)
	}
	if err != nil {
		e.log.Error("save the station failed", "err", err)
	}
}
