package endpoint

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"dragnet/ask/witness/policy"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// members keeps the newest valid roster of the file, across restarts.
type members struct {
	file   string
	keeper *roster.Keeper
	log    *slog.Logger

	mu   sync.Mutex // guards seen
	seen fileVersion
}

type fileVersion struct {
	size int64
	mod  time.Time
}

func openMembers(c RosterConfiguration, held string, log *slog.Logger) (*members, error) {
	signer, err := identity.ParsePublic(c.Signer)
	if err != nil {
		return nil, err
	}
	k, err := roster.NewKeeper(signer, roster.File(held))
	return &members{file: c.File, keeper: k, log: log}, err
}

// reload accepts a newer roster from the file. A roster that is older than the
// held one, or not signed by the signer, is logged and changes nothing.
func (m *members) reload(now time.Time) {
	if m.file == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	info, err := os.Stat(m.file)
	if err != nil {
		m.log.Warn("read roster failed", "err", err)
		return
	}
	at := fileVersion{info.Size(), info.ModTime()}
	if at == m.seen {
		return
	}
	data, err := os.ReadFile(m.file)
	if err == nil {
		err = m.acceptBundle(data, now)
	}
	m.seen = at
	if err != nil {
		m.log.Warn("roster rejected", "file", m.file, "err", err)
	}
}

// acceptBundle accepts a roster that descends from ours.
func (m *members) acceptBundle(bundle []byte, now time.Time) error {
	before := m.version(now)
	held, err := m.keeper.Accept(bundle, now)
	if err == nil && held.Version != before {
		m.log.Info("roster accepted", "version", held.Version, "members", len(held.Members), "expires", held.Expires)
	}
	return err
}

func (m *members) version(now time.Time) uint64 {
	held, err := m.keeper.Current(now)
	if err != nil {
		return 0
	}
	return held.Version
}

// findDetective finds a key that may ask now.
func (m *members) findDetective(id identity.ID, now time.Time) (identity.Public, policy.Asker, bool) {
	held, err := m.keeper.Current(now)
	if err != nil {
		return identity.Public{}, policy.Asker{}, false
	}
	member, err := held.May(id, roster.Ask, now)
	if err != nil {
		return identity.Public{}, policy.Asker{}, false
	}
	_, key, err := held.Find(id)
	return key.Public, policy.Asker{ID: id.String(), Class: member.Class}, err == nil
}

// checkReady returns an error if no question could be answered now.
func (m *members) checkReady(now time.Time) error {
	_, err := m.keeper.Current(now)
	if errors.Is(err, roster.ErrNone) {
		return errors.New("no roster yet")
	}
	return err
}
