package centre

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/metric"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/source/sensor"
	"dragnet/trap"
	agentv1 "dragnet/wire/agent/v1"
)

//go:embed migrations
var migrations embed.FS

// FindingStore keeps what is found; see enforcement.Enforcement.
type FindingStore interface {
	TakeFindings(ctx context.Context, found []dossier.Finding, propose bool) (fresh []dossier.Finding, err error)
	// FindFinding returns a finding by its identity; nil if there is none.
	FindFinding(ctx context.Context, id string) (*dossier.Finding, error)
	// Resets are the decisions to reset connections, and the allow list.
	Resets() dossier.Resets
}

// Dependencies of a centre.
type Dependencies struct {
	// DB keeps captures and signatures; it is open by Start.
	DB *state.DB
	// Agents is where traps and sensors report, and sensors get signatures; nil
	// has none.
	Agents   *agents.Registry
	Findings FindingStore
	Log      *slog.Logger
	// Admin gets the metrics; it may be nil.
	Admin *admin.Server
}

// Centre is safe for concurrent use.
type Centre struct {
	c     Configuration
	deps  Dependencies
	now   func() time.Time
	group *run.Group

	clean   [][]byte
	trusted []ed25519.PublicKey
	turning sync.Mutex // held by turn, guards what follows
	// sharedState is what the shared folders held when they were read, and
	// unoffered says that signatures changed since they were offered.
	sharedState string
	unoffered   bool
	decisions   string         // a digest of those about signatures, as offered
	resets      dossier.Resets // as offered
	tooMany     bool           // a warning that sensors are too many was given

	mu      sync.Mutex      // guards changed
	changed map[portOf]bool // what has new payloads

	payloads, copies, refused, learned, withheld prometheus.Counter
	inspected, skipped, lost, probation          prometheus.Counter
	offered                                      prometheus.Gauge
}

// portOf is a service that is attacked.
type portOf struct {
	proto flow.Proto
	port  uint16
}

// New makes a centre; Start starts it.
func New(c Configuration, d Dependencies) (*Centre, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	under := metric.Under(d.Admin.Metrics(), "dragnet_centre_")
	s := &Centre{
		c: c, deps: d, now: time.Now, group: run.NewGroup(), changed: map[portOf]bool{}, unoffered: true, sharedState: "not read",
		payloads:  under.Counter("payloads_total", "Payloads that traps captured for the first time."),
		copies:    under.Counter("copies_total", "Captures whose payload was known."),
		refused:   under.Counter("refused_total", "Captures that were invalid or beyond a trap's quota, and shared signatures that could not be used."),
		learned:   under.Counter("signatures_total", "Signatures learnt, repetitions included."),
		withheld:  under.Counter("withheld_total", "Signatures withheld because they match clean traffic."),
		inspected: under.Counter("inspected_bytes_total", "Payload that sensors compared with signatures."),
		skipped:   under.Counter("uninspected_bytes_total", "Payload that sensors did not compare, beyond their bounds or not captured."),
		lost:      under.Counter("sightings_lost_total", "Matches that sensors counted and had no room to list."),
		probation: under.Counter("probation_matches_total", "Matches of signatures on probation, of which no finding is made."),
		offered:   under.Gauge("signatures_offered", "Signatures that sensors are to match."),
	}
	if d.Agents != nil {
		d.Agents.Handle(trap.ReportKind, agents.Handler{Roles: []string{"trap"}, Handle: s.takeReport})
		d.Agents.Handle(sensor.InspectionKind, agents.Handler{Roles: []string{"sensor"}, Handle: s.takeInspection})
	}
	return s, nil
}

// Start brings the tables up to date, reads the clean traffic, and learns until
// Stop.
func (s *Centre) Start(ctx context.Context) error {
	if err := Migrate(ctx, s.deps.DB); err != nil {
		return err
	}
	var err error
	if s.clean, err = readClean(ctx, s.c.Clean); err != nil {
		return fmt.Errorf("clean traffic: %w", err)
	}
	if s.trusted, err = readTrusted(s.c.Trust); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	if err := s.markAll(ctx); err != nil {
		return err
	}
	s.group.Go(s.run)
	return nil
}

// markAll has everything learnt from once: what came before a restart, too.
func (s *Centre) markAll(ctx context.Context) error {
	return s.deps.DB.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(r *sql.Rows) error {
			var proto, port int64
			err := r.Scan(&proto, &port)
			s.mark(portOf{flow.Proto(proto), uint16(port)})
			return err
		}, `SELECT DISTINCT proto, port FROM centre_payload`)
	})
}

func (s *Centre) mark(p portOf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed[p] = true
}

// Failed receives the error that ended the centre.
func (s *Centre) Failed() <-chan error { return s.group.Failed() }

// Stop ends learning.
func (s *Centre) Stop(ctx context.Context) error { return s.group.Stop(ctx) }

// ErrQuota refuses what a trap sends beyond its share.
var ErrQuota = errors.New("this trap has sent as much today as bytes_per_trap allows")

// takeReport keeps a capture of an enrolled trap.
func (s *Centre) takeReport(_ context.Context, tx *state.Tx, from agents.From, item *agentv1.Item) error {
	r, err := parseReport(item)
	if err != nil {
		s.refused.Inc()
		return agents.Refuse(err)
	}
	if err := s.chargeQuota(tx, from.Name, int64(len(r.Payload)), s.c.BytesPerTrap, ErrQuota); err != nil {
		return err
	}
	if err := s.keepPayload(tx, from.Name, r); err != nil {
		return err
	}
	r.Payload = nil
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO centre_report (trap, body) VALUES (?, ?)`, from.Name, body)
	return err
}

// chargeQuota counts what is taken from an agent today, and refuses it beyond
// most.
func (s *Centre) chargeQuota(tx *state.Tx, agent string, n, most int64, beyond error) error {
	day := s.now().UTC().Format(time.DateOnly)
	var taken int64
	err := tx.QueryRow(`SELECT bytes FROM centre_quota WHERE trap = ? AND day = ?`, agent, day).Scan(&taken)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if taken+n > most {
		s.refused.Inc()
		return agents.Refuse(beyond)
	}
	if _, err := tx.Exec(`INSERT INTO centre_quota (trap, day, bytes) VALUES (?, ?, ?) ON CONFLICT (trap, day) DO UPDATE SET bytes = centre_quota.bytes + excluded.bytes`,
		agent, day, n); err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM centre_quota WHERE day < ?`, s.now().UTC().AddDate(0, 0, -7).Format(time.DateOnly))
	return err
}

// parseReport reads a report and checks what it claims.
func parseReport(item *agentv1.Item) (*trap.CaptureReport, error) {
	if item.Format != trap.ReportFormat {
		return nil, fmt.Errorf("capture of format %d; this node knows %d", item.Format, trap.ReportFormat)
	}
	var r trap.CaptureReport
	if err := json.Unmarshal(item.Body, &r); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	switch {
	case r.Version != trap.ReportVersion:
		return nil, fmt.Errorf("capture of version %d; this node knows %d", r.Version, trap.ReportVersion)
	case len(r.Payload) == 0 || len(r.Payload) > trap.MaxPayload:
		return nil, fmt.Errorf("capture of %d bytes; want 1 to %d", len(r.Payload), trap.MaxPayload)
	case !r.Source.IsValid() || !r.Target.IsValid() || len(r.Session) > 64 || len(r.Service) > 64 || len(r.Attackers) > 64:
		return nil, errors.New("capture without a source or a target, or with names that are too long")
	}
	for _, a := range r.Attackers {
		if !a.Addr.IsValid() || !a.Target.IsValid() {
			return nil, errors.New("capture with an attacker that has no address")
		}
	}
	return &r, nil
}

func (s *Centre) keepPayload(tx *state.Tx, from string, r *trap.CaptureReport) error {
	digest := r.ID()
	done, err := tx.Exec(`UPDATE centre_payload SET copies = copies + 1 WHERE digest = ?`, digest)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		s.copies.Inc()
		return err
	}
	if err := s.makeRoom(tx, int64(len(r.Payload))); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO centre_payload (digest, proto, port, trap, first, copies, body) VALUES (?, ?, ?, ?, ?, 1, ?)`,
		digest, int64(r.Proto), int64(r.Target.Port()), from, s.now().UnixNano(), r.Payload); err != nil {
		return err
	}
	s.payloads.Inc()
	s.mark(portOf{r.Proto, r.Target.Port()})
	return nil
}

// makeRoom removes the oldest payloads until n bytes fit.
func (s *Centre) makeRoom(tx *state.Tx, n int64) error {
	for {
		var kept sql.NullInt64
		if err := tx.QueryRow(`SELECT SUM(LENGTH(body)) FROM centre_payload`).Scan(&kept); err != nil {
			return err
		}
		if kept.Int64+n <= s.c.Bytes {
			return nil
		}
		if _, err := tx.Exec(`DELETE FROM centre_payload WHERE seq IN (SELECT seq FROM centre_payload ORDER BY seq LIMIT 16)`); err != nil {
			return err
		}
	}
}

// run learns, and makes findings, as captures arrive.
func (s *Centre) run(ctx context.Context) error {
	tick := time.NewTicker(s.c.Every)
	defer tick.Stop()
	for {
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.Error("learn from captures failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Centre) turn(ctx context.Context) error {
	s.turning.Lock()
	defer s.turning.Unlock()
	if err := errors.Join(s.reportFindings(ctx), s.reportSightings(ctx)); err != nil {
		return err
	}
	fresh, err := s.takeShared(ctx)
	if err != nil {
		s.deps.Log.Error("read shared signatures failed", "err", err)
	}
	resets, err := s.shareResets(ctx)
	if err != nil {
		return err
	}
	decided, err := s.decided(ctx)
	if err != nil {
		return err
	}
	if decided != s.decisions {
		s.decisions, s.unoffered = decided, true
	}
	if fresh || !sameResets(&s.resets, &resets) {
		s.resets, s.unoffered = resets, true
	}
	s.mu.Lock()
	changed := s.changed
	s.changed = map[portOf]bool{}
	s.mu.Unlock()
	for p := range changed {
		if err := s.learnPort(ctx, p); err != nil {
			s.mark(p) // to be tried again
			return fmt.Errorf("%s port %d: %w", p.proto, p.port, err)
		}
		s.unoffered = true
	}
	if !s.unoffered {
		return nil
	}
	err = s.offer(ctx)
	s.unoffered = err != nil
	return err
}

// reportsAtOnce bounds the reports of which findings are made at a time.
const reportsAtOnce = 1000

// reportFindings makes findings of reports, and forgets those.
func (s *Centre) reportFindings(ctx context.Context) error {
	return s.takeRows(ctx, "centre_report", "trap", func(byID map[string]*dossier.Finding, from string, body []byte) error {
		var r trap.CaptureReport
		if err := json.Unmarshal(body, &r); err != nil {
			return err
		}
		addEvidence(byID, from, &r)
		return nil
	})
}

// takeRows makes findings of the oldest rows of a table, each from who sent it, keeps
// the findings, and deletes the rows.
func (s *Centre) takeRows(ctx context.Context, table, sender string, add func(byID map[string]*dossier.Finding, from string, body []byte) error) error {
	var last int64
	byID := map[string]*dossier.Finding{}
	err := s.deps.DB.View(ctx, func(tx *state.Tx) error {
		last = 0
		clear(byID)
		return tx.Each(func(row *sql.Rows) error {
			var from string
			var body []byte
			if err := row.Scan(&last, &from, &body); err != nil {
				return err
			}
			return add(byID, from, body)
		}, `SELECT seq, `+sender+`, body FROM `+table+` ORDER BY seq LIMIT ?`, reportsAtOnce)
	})
	if err != nil || last == 0 {
		return err
	}
	if err := s.keepFindings(ctx, byID); err != nil {
		return err
	}
	return s.deps.DB.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Exec(`DELETE FROM `+table+` WHERE seq <= ?`, last)
		return err
	})
}

// maxFlows bounds the flows of a finding.
const maxFlows = 20

// addEvidence adds a report to the findings about those who attacked the
// honeypot; if none is known, about the honeypot itself, which was taken over.
func addEvidence(byID map[string]*dossier.Finding, from string, r *trap.CaptureReport) {
	sent := dossier.FlowEvidence{Time: r.Time, Orig: r.Source.Addr(), Resp: r.Target.Addr(), Port: r.Target.Port(), Proto: r.Proto.String(), State: "recorded"}
	about := r.Attackers
	if len(about) == 0 {
		about = []trap.Attacker{{Addr: r.Source.Addr(), Target: r.Target, Proto: r.Proto}}
	}
	for _, a := range about {
		f := newFinding("trap", "honeypot-attack", a.Addr, from, r.Time)
		if known := byID[f.ID]; known != nil {
			f = known
		}
		byID[f.ID] = f
		if a.Addr != r.Source.Addr() {
			addFlow(f, dossier.FlowEvidence{Time: r.Time, Orig: a.Addr, Resp: a.Target.Addr(), Port: a.Target.Port(), Proto: a.Proto.String(), State: "brought to honeypot"})
		}
		f.First, f.Last = min(f.First, r.Time), max(f.Last, r.Time)
		f.Evidence.Counts["sessions"]++
		addFlow(f, sent)
		f.Summary = fmt.Sprintf("%s had a session with honeypot %s of trap %s when that began to send to %s port %d, an attack by construction", a.Addr, r.Source.Addr(), from, r.Target.Addr(), r.Target.Port())
		if a.Addr == r.Source.Addr() {
			f.Summary = fmt.Sprintf("honeypot %s of trap %s sends to %s port %d; who took it over was not seen", a.Addr, from, r.Target.Addr(), r.Target.Port())
		}
	}
}
