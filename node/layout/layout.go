// Package layout says where a node keeps what in its data directory.
package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dragnet/decide/ledger"
	"dragnet/store/disk"
)

// folder is where control state is within a data directory.
const folder = "control"

// StateFile is the state database of a data directory.
func StateFile(dir string) string { return filepath.Join(dir, folder, "state.db") }

// AuthorityDir is the directory of the agents' certificate authority.
func AuthorityDir(dir string) string { return filepath.Join(dir, folder, "authority") }

// MakeDataDir makes dir a data directory unless it is one. It refuses a
// directory that holds other files.
func MakeDataDir(dir string) error {
	if disk.Is(dir) {
		return nil
	}
	s, err := disk.OpenWriter(dir)
	if err != nil {
		return err
	}
	return s.Close()
}

// OpenLedger opens the ledger of a data directory; where there is no such
// directory, it makes one.
func OpenLedger(ctx context.Context, dir string) (*ledger.Ledger, error) {
	if err := MakeDataDir(dir); err != nil {
		return nil, err
	}
	return ledger.Open(ctx, StateFile(dir))
}

// OpenExistingLedger opens the ledger of a data directory that has one, or that
// at the URL of a PostgreSQL database; it makes none.
func OpenExistingLedger(ctx context.Context, dir string) (*ledger.Ledger, error) {
	if strings.HasPrefix(dir, "postgres://") || strings.HasPrefix(dir, "postgresql://") {
		return ledger.Open(ctx, dir)
	}
	if _, err := os.Stat(StateFile(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no findings or decisions (%s not found)", dir, StateFile(dir))
	}
	return ledger.Open(ctx, StateFile(dir))
}
