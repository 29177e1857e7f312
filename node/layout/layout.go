// Package layout knows the paths in a node's data directory, and copies all of
// it.
package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dragnet/decide/ledger"
	"dragnet/internal/state"
	"dragnet/store/disk"
)

// Directory is a data directory. It also holds the files of store/disk.
type Directory string

func (d Directory) join(name ...string) string {
	return filepath.Join(append([]string{string(d)}, name...)...)
}

// State is the database of findings, decisions, enrolments and questions asked,
// unless it is in PostgreSQL.
func (d Directory) State() string { return d.join("control", "state.db") }

// Authority is the directory of the agents' certificate authority.
func (d Directory) Authority() string { return d.join("control", "authority") }

// WitnessKey is the file of the organisation's private key.
func (d Directory) WitnessKey() string { return d.join("witness.key") }

// Roster is the file of the newest roster that was accepted.
func (d Directory) Roster() string { return d.join("roster.held") }

// Epochs is the file of the epochs that a clearinghouse published.
func (d Directory) Epochs() string { return d.join("epochs.json") }

// Templates is the file of the templates of flow exporters.
func (d Directory) Templates() string { return d.join("templates.json") }

// Kafka is how the files begin that say where topics go on.
func (d Directory) Kafka() string { return d.join("kafka") }

// Sources is the file that says what was received of each exporter and sensor.
func (d Directory) Sources() string { return d.join("sources.json") }

// Station is the file of what the station of guards has learnt of offenders.
func (d Directory) Station() string { return d.join("control", "station.json") }

// Socket is the node's Unix socket, unless the configuration names another.
func (d Directory) Socket() string { return d.join("node.sock") }

// Create makes d a data directory unless it is one. It refuses a directory that
// holds other files.
func (d Directory) Create() error {
	if disk.Is(string(d)) {
		return nil
	}
	s, err := disk.OpenWriter(string(d))
	if err != nil {
		return err
	}
	return s.Close()
}

// OpenLedger opens the ledger of a data directory, and creates both if they do
// not exist.
func (d Directory) OpenLedger(ctx context.Context) (*ledger.Ledger, error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	return ledger.Open(ctx, d.State())
}

// OpenLedger opens the ledger of the data directory at place, or in the
// PostgreSQL database of that URL. It does not create it.
func OpenLedger(ctx context.Context, place string) (*ledger.Ledger, error) {
	if state.IsPostgres(place) {
		return ledger.Open(ctx, place)
	}
	file := Directory(place).State()
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no findings or decisions (%s not found)", place, file)
	} else if err != nil {
		return nil, err
	}
	return ledger.Open(ctx, file)
}
