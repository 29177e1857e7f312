package sensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"
)

// Source is a place that flows come from, and what of them was lost. Its JSON form
// is that of 'dragnet source list'.
type Source struct {
	// Kind is log, exporter, address, collector, topic, forward or sensor.
	Kind string `json:"kind"`
	// Name is a path, a configured prefix of exporters, a topic, or a sensor's name.
	Name string `json:"name"`
	// Flows were made of it.
	Flows uint64 `json:"flows"`
	// Lost counts what is missing, each in the unit of its cause.
	Lost map[string]uint64 `json:"lost"`
	// Sampling is the coarsest 1-in-N seen; 0 if not known, 1 unsampled.
	Sampling uint32 `json:"sampling,omitempty"`
	// At is when something of it was last taken in.
	At time.Time `json:"at,omitzero"`
}

// Report is what a node keeps in its file of sources.
type Report struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
	Sources []Source  `json:"sources"`
}

// ReportVersion is that of the file.
const ReportVersion = 1

// ReadReport reads a file of sources; without one, there are none.
func ReadReport(file string) (r Report, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Version != ReportVersion {
		err = fmt.Errorf("version %d; this program knows %d", r.Version, ReportVersion)
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", file, err)
	}
	return r, nil
}

// Source is the sensor as one.
func (s *Seen) Source() Source {
	return Source{Kind: "sensor", Name: s.Sensor, Flows: s.Flows, Sampling: 1, At: s.At, Lost: Nonzero(map[string]uint64{
		"packets_dropped_by_kernel": s.Dropped, "packets_skipped": s.Skipped, "flows_reported_early": s.Early, "flows_lost": s.Lost,
	})}
}

// Nonzero leaves the zeros of a count by cause out.
func Nonzero(m map[string]uint64) map[string]uint64 {
	maps.DeleteFunc(m, func(_ string, n uint64) bool { return n == 0 })
	return m
}
