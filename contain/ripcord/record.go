//go:build linux

package ripcord

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dragnet/contain/ripcord/tables"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/durable"
)

// DecisionID is the ID of the standing decision under which blocks are made.
const DecisionID = "ripcord-standing"

// maxRecord is the size at which the record of blocks is rotated; one older
// file is kept.
const maxRecord = 16 << 20

// record is the standing decision and the receipts of all blocks made under it.
type record struct {
	decision dossier.Decision
	enforce  bool
	point    string

	findings *os.File // opened before the process is confined

	mu    sync.Mutex
	file  *os.File
	size  int64
	dirty bool
}

func decisionFile(state string) string { return filepath.Join(state, "decision.json") }

// ReceiptFile is where the receipts of blocks are kept, one JSON object a line.
func ReceiptFile(state string) string { return filepath.Join(state, "blocks.jsonl") }

// olderName is what a file of receipts is called once it is full.
func olderName(file string) string { return file + ".1" }

// openRecord reads the standing decision, or writes it if the configuration
// says to enforce and none exists.
func openRecord(c *Configuration) (*record, error) {
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	r := &record{enforce: c.Enforce}
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	r.point = fmt.Sprintf("ripcord %s-%s on %s", c.Host, c.Network, name)
	b, err := os.ReadFile(decisionFile(c.State))
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &r.decision); err != nil {
			return nil, fmt.Errorf("%s: %w", decisionFile(c.State), err)
		}
	case errors.Is(err, fs.ErrNotExist) && c.Enforce:
		r.decision = standingDecision(c, time.Now())
		if err := writeDecision(c.State, &r.decision); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("standing decision: %w", err)
	}
	if r.findings, err = os.OpenFile(FindingsFile(c.State), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("record of findings: %w", err)
	}
	return r, r.openFile(ReceiptFile(c.State))
}

func writeDecision(state string, d *dossier.Decision) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(decisionFile(state), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("standing decision: %w", err)
	}
	return nil
}

// standingDecision is the decision of the operator who set enforce.
func standingDecision(c *Configuration, now time.Time) dossier.Decision {
	target := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if len(c.Addresses) > 0 {
		target = netip.PrefixFrom(c.Addresses[0], c.Addresses[0].BitLen())
	}
	why := fmt.Sprintf("receivers may end what the host behind %s sends", c.Host)
	return dossier.Decision{
		Version: dossier.DecisionVersion, ID: DecisionID, Target: target, Verdict: dossier.Active, Why: why,
		Findings: []string{}, Until: flow.MaxTime,
		Steps: []dossier.Step{{Time: flow.FromTime(now), Who: "operator, by 'enforce: true'", Verdict: dossier.Active, Why: why}},
		Undo:  "set 'enforce: false' and restart the agent",
	}
}

// isActive reports whether blocks take effect.
func (r *record) isActive() bool {
	return r.enforce && r.decision.Verdict == dossier.Active && r.decision.Until > flow.FromTime(time.Now())
}

func (r *record) openFile(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("record of blocks: %w", err)
	}
	r.file = f
	r.size, err = f.Seek(0, 2)
	return err
}

// writeBlock writes the receipt of a block that the programs made.
func (r *record) writeBlock(e tables.PacketEvent, at time.Time, last time.Duration) error {
	what := "connection"
	if e.Reason == tables.CoarseBlock {
		what = "new connections to the port"
	}
	return r.writeReceipt(at, fmt.Sprintf("%s %v - %v ended by RST (sequence number %d), until %s",
		what, e.Host, e.Peer, e.Seq, at.Add(last).UTC().Format(time.RFC3339)))
}

func (r *record) writeReceipt(at time.Time, proof string) error {
	receipt := dossier.Receipt{
		Version: dossier.ReceiptVersion, Decision: DecisionID, Point: r.point, Time: flow.FromTime(at),
		Applied: r.isActive(), Proof: proof,
	}
	if !receipt.Applied {
		receipt.Problem = "observing only"
	}
	b, err := json.Marshal(receipt)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > maxRecord {
		name := r.file.Name()
		if err := errors.Join(r.file.Close(), os.Rename(name, olderName(name)), r.openFile(name)); err != nil {
			return err
		}
	}
	n, err := r.file.Write(append(b, '\n'))
	r.size += int64(n)
	r.dirty = true
	return err
}

// writeFinding appends a finding. There are few: one for each doubling of the networks
// that ask within the window.
func (r *record) writeFinding(f *dossier.Finding) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.findings.Write(append(b, '\n'))
	return errors.Join(err, r.findings.Sync())
}

func (r *record) sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dirty {
		return nil
	}
	r.dirty = false
	return r.file.Sync()
}

func (r *record) close() error {
	return errors.Join(r.sync(), r.file.Close(), r.findings.Close())
}
