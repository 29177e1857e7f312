package community_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/node/community"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
	"dragnet/wire/roster"
)

// machine is what a clearinghouse runs on, and its members.
type machine struct {
	*testing.T
	config  community.Configuration
	signer  *identity.Key
	members map[string]*identity.Key
	bundle  *roster.Bundle
	running *community.Community
}

func newMachine(t *testing.T) *machine {
	m := &machine{T: t, config: community.DefaultConfiguration(), members: map[string]*identity.Key{}}
	m.signer = m.key()
	m.config.Server.Directory, m.config.Server.Listen = filepath.Join(t.TempDir(), "clearinghouse"), "127.0.0.1:0"
	m.config.Server.Signer, m.config.Server.Roster = m.signer.Public().String(), filepath.Join(t.TempDir(), "roster.bin")
	m.config.Admin.Listen, m.config.Relay.Serve, m.config.Clearinghouse.Batch = "", true, time.Second
	for _, name := range []string{"a", "b"} {
		m.members[name] = m.key()
	}
	m.sign()
	return m
}

func (m *machine) key() *identity.Key {
	k, err := identity.Generate()
	if err != nil {
		m.Fatal(err)
	}
	return k
}

func (m *machine) sign() {
	m.Helper()
	now := time.Now()
	r := &roster.Roster{Issued: now, Expires: now.Add(time.Hour), Servers: []identity.Public{m.signer.Public()}}
	for _, name := range []string{"a", "b"} {
		r.Members = append(r.Members, roster.Member{Name: name, Class: "org:" + name, Roles: roster.Report | roster.Ask, Keys: []roster.MemberKey{{Public: m.members[name].Public(), From: now.Add(-time.Hour), Until: now.Add(time.Hour)}}})
	}
	var err error
	if m.bundle, err = roster.Sign(m.signer, r, m.bundle); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(m.config.Server.Roster, m.marshalled(), 0o600); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) marshalled() []byte {
	data, err := m.bundle.MarshalBinary()
	if err != nil {
		m.Fatal(err)
	}
	return data
}

func (m *machine) start() (address string, key identity.Public) {
	m.Helper()
	var err error
	if m.running, err = community.New(m.config, run.Program{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Release: "1"}); err != nil {
		m.Fatal(err)
	}
	if err := m.running.Start(m.Context()); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(m.stop)
	return m.running.Address(), m.running.Key()
}

func (m *machine) stop() {
	if m.running != nil {
		if err := m.running.Stop(context.Background()); err != nil {
			m.Error(err)
		}
		m.running = nil
	}
}

func (m *machine) dial(address string, server identity.Public, member string) *reporting.Client {
	m.Helper()
	c, err := reporting.Dial("https://"+address, []identity.Public{server}, m.members[member])
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(c.Close)
	return c
}

// report reports a host and gives the status.
func (m *machine) report(c *reporting.Client, made time.Time) reportingv1.Status {
	m.Helper()
	now := flow.FromTime(made)
	out, err := c.SubmitReports(m.Context(), &dossier.Report{
		Pattern: "in dport=1433", Made: now, Until: now + flow.Time(time.Hour), Asked: 3,
		Hosts: []dossier.ReportedHost{{Addr: netip.MustParseAddr("198.51.100.1"), Witnesses: 2, First: now - 1, Last: now}},
	})
	if err != nil {
		m.Fatal(err)
	}
	return out[0].Status
}

func (m *machine) listed(c *reporting.Client, want int) {
	m.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		page, _, err := c.ListEntries(m.Context(), nil, "", 0)
		if err == nil && len(page) == want {
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("%d entries are listed, %v; want %d", len(page), err, want)
		}
	}
}

// lostMachine is a machine that lost its directory, and a backup that was made before.
func lostMachine(t *testing.T) (m *machine, copied string) {
	m = newMachine(t)
	m.start()
	copied = filepath.Join(t.TempDir(), "copy")
	if _, err := community.Backup(t.Context(), &m.config, copied); err != nil {
		t.Fatal(err)
	}
	m.stop()
	if err := os.RemoveAll(m.config.Server.Directory); err != nil {
		t.Fatal(err)
	}
	return m, copied
}

// TestMachineIsLost: a clearinghouse whose disk is gone is back from the backup that was
// made while it ran, with its key, its reports and what was published; members go on
// with the key that they pinned.
func TestMachineIsLost(t *testing.T) {
	m := newMachine(t)
	address, key := m.start()
	made := time.Now()
	for member := range m.members {
		c := m.dial(address, key, member)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if _, err := c.FetchRoster(t.Context()); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if s := m.report(c, made); s != reportingv1.Status_STATUS_ACCEPTED {
			t.Fatal(s)
		}
	}
	m.listed(m.dial(address, key, "a"), 1)
	epoch, err := m.dial(address, key, "a").Epoch(t.Context(), made.UTC().Format(time.DateOnly))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if whole, err := community.Backup(t.Context(), &m.config, copied); err != nil || !whole {
		t.Fatal(whole, err)
	}
	if _, err := community.Backup(t.Context(), &m.config, copied); err == nil {
		t.Error("a backup was written over another")
	}
	m.stop()
	if _, err := community.Restore(t.Context(), copied, &m.config, nil); err == nil {
		t.Error("a backup was restored over a clearinghouse")
	}
	if err := errors.Join(os.RemoveAll(m.config.Server.Directory), os.Remove(m.config.Server.Roster)); err != nil {
		t.Fatal(err)
	}
	out, err := community.Restore(t.Context(), copied, &m.config, nil)
	if err != nil || out.Key != key || out.Roster != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	address, again := m.start()
	if again != key {
		t.Fatalf("it has the key %s, and had %s", again, key)
	}
	c := m.dial(address, key, "a")
	m.listed(c, 1)
	if s := m.report(c, made); s != reportingv1.Status_STATUS_KNOWN {
		t.Errorf("a report from before the backup is %s", s)
	}
	if now, err := c.Epoch(t.Context(), made.UTC().Format(time.DateOnly)); err != nil || now != epoch {
		t.Errorf("the day's epoch is %s, %v; it was %s", now, err, epoch)
	}
}

// TestRestoreTakesTheNewestRoster: members refuse what does not descend from what they
// hold, so a roster that was signed after the backup must not be lost; one of somebody
// else is none.
func TestRestoreTakesTheNewestRoster(t *testing.T) {
	m := newMachine(t)
	m.start()
	copied := filepath.Join(t.TempDir(), "copy")
	if _, err := community.Backup(t.Context(), &m.config, copied); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.sign()
	newer := m.marshalled()
	other := newMachine(t)
	if err := errors.Join(os.RemoveAll(m.config.Server.Directory), os.Remove(m.config.Server.Roster)); err != nil {
		t.Fatal(err)
	}
	if _, err := community.Restore(t.Context(), copied, &m.config, other.marshalled()); err == nil {
		t.Error("a roster that another signed was taken")
	}
	out, err := community.Restore(t.Context(), copied, &m.config, newer)
	if err != nil || out.Roster != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
}

// TestRestoreRefuses: a copy without tables, as 'cp' makes while all is in the WAL, and
// one that is damaged.
func TestRestoreRefuses(t *testing.T) {
	m, copied := lostMachine(t)
	database := filepath.Join(copied, "state.db")
	whole, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, whole...)
	for i := 4096; i < len(damaged); i += 3 {
		damaged[i] ^= 0x55
	}
	for name, data := range map[string][]byte{"no tables": {}, "damage": damaged, "half": whole[:len(whole)/2]} {
		if err := os.WriteFile(database, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := community.Restore(t.Context(), copied, &m.config, nil); err == nil {
			t.Errorf("%s: restored", name)
		}
		if _, err := os.Stat(m.config.Server.Directory); err == nil {
			t.Fatalf("%s: something was written", name)
		}
	}
}

// TestRestoreReplacesNothing: a database that lives elsewhere is not written over, and the
// address of one with a password is no path.
func TestRestoreReplacesNothing(t *testing.T) {
	m, copied := lostMachine(t)
	elsewhere := filepath.Join(t.TempDir(), "live.db")
	if err := os.WriteFile(elsewhere, []byte("live"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{elsewhere, "postgres://dragnet:hunter2@127.0.0.1/dragnet"} {
		c := m.config
		c.Server.State = conf.Secret(place)
		_, err := community.Restore(t.Context(), copied, &c, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", place, err)
		}
		if _, err := os.Stat(c.Server.Directory); err == nil {
			t.Fatalf("%s: something was written", place)
		}
	}
	if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "live" {
		t.Errorf("the other database is now %q, %v", text, err)
	}
}

// TestLostKeyIsNoNewIdentity: a clearinghouse whose key file is gone does not start under
// another.
func TestLostKeyIsNoNewIdentity(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.stop()
	if err := os.Remove(m.config.Server.KeyPath()); err != nil {
		t.Fatal(err)
	}
	c, err := community.New(m.config, run.Program{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Release: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); !errors.Is(err, identity.ErrLost) || !strings.Contains(err.Error(), "identity.key") {
		t.Errorf("it started: %v", err)
	}
}

// TestOneAllowListForAll: the verbs of the operator leave out what the service leaves out.
func TestOneAllowListForAll(t *testing.T) {
	c := community.DefaultConfiguration()
	c.Clearinghouse.Never = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	c.Publish.Allow = []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}
	allow, err := c.AllowList()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"198.51.100.9", "203.0.113.7"} {
		if _, listed := allow.Protects(netip.MustParseAddr(host)); !listed {
			t.Errorf("%s is not on the list", host)
		}
	}
}
