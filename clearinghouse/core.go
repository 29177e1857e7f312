// Package clearinghouse takes the reports of a community's detectives, merges
// them into groups of hosts that act together, and publishes those without
// telling who contributed what (Allman et al. 2006, section 2.3: the trusted
// collector). It states what was reported and sets no policy.
//
// What is published comes in batches, with coarse times and numbers, and only
// once Floor independent organisations stand behind it. What is not hidden:
// who can watch the clearinghouse's own memory or disk sees everything; who
// reports something that no other member knows, and sees when it appears, learns
// that another member knows it too.
package clearinghouse

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net/netip"
	"sync"
	"time"

	"dragnet/clearinghouse/merge"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
)

// Configuration of a clearinghouse's judgement and memory.
type Configuration struct {
	// Floor is how many independent organisations must report a host under one
	// pattern before it is published. With 1, a member who knows who looks at
	// what may guess whom an entry came from.
	Floor int `yaml:"floor"`
	// Witnesses is how many independent witnesses must have named the host to
	// one of them. With 1, the quorums of the detectives decide alone, who may
	// take an organisation's own word about its own hosts.
	Witnesses int `yaml:"witnesses"`
	// Shared and Overlap join two patterns into one group: they share this number of
	// published hosts, and this part (0..1) of the smaller one's.
	Shared int `yaml:"shared"`
	// Overlap is that part.
	Overlap float64 `yaml:"overlap"`
	// Grain is what published times are rounded to.
	Grain time.Duration `yaml:"grain"`
	// Batch is how often changes are published, all at once.
	Batch time.Duration `yaml:"batch"`
	// Retain is how long a report is kept after it lapsed or was taken back.
	Retain time.Duration `yaml:"retain"`
	// History is how long the changes of what was published are kept.
	History time.Duration `yaml:"history"`
	// ReportsPerDay bounds what one organisation may report in a UTC day.
	ReportsPerDay int `yaml:"reports_per_day"`
	// ReportBytes bounds the size of one organisation's live reports; a host takes
	// 23 bytes (IPv6: 35).
	ReportBytes int64 `yaml:"report_bytes"`
	// OpenObjections bounds how many objections wait for an answer.
	OpenObjections int `yaml:"open_objections"`
	// Never lists networks of which nothing is ever published.
	Never []netip.Prefix `yaml:"never"`
}

// DefaultConfiguration masks single sources.
func DefaultConfiguration() Configuration {
	return Configuration{
		Floor: 2, Witnesses: 1, Shared: 3, Overlap: 0.5, Grain: time.Hour, Batch: time.Hour,
		Retain: 30 * 24 * time.Hour, History: 365 * 24 * time.Hour, ReportsPerDay: 10_000, ReportBytes: 64 << 20, OpenObjections: 1000, Never: []netip.Prefix{},
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Floor >= 1 && c.Floor <= 1000, "floor", "is %d; want 1 to 1000 organisations", c.Floor)
	p.Check(c.Witnesses >= 1 && c.Witnesses <= 1000, "witnesses", "is %d; want 1 to 1000", c.Witnesses)
	p.Check(c.Shared >= 1, "shared", "is %d; want at least 1", c.Shared)
	p.Check(c.Overlap > 0 && c.Overlap <= 1, "overlap", "is %g; want a share above 0 and at most 1", c.Overlap)
	p.Check(c.Grain >= time.Second && c.Grain <= 31*24*time.Hour, "grain", "is %v; want 1s to 744h", c.Grain)
	p.Check(c.Batch >= time.Second && c.Batch <= 31*24*time.Hour, "batch", "is %v; want 1s to 744h", c.Batch)
	p.Check(c.Retain >= reporting.MaxLife, "retain", "is %v; want at least %v, as long as a copy of a report could be sent again", c.Retain, reporting.MaxLife)
	p.Check(c.History >= c.Batch+c.Grain, "history", "is %v; want at least batch and grain together, %v: times are rounded down to grain", c.History, c.Batch+c.Grain)
	p.Check(c.ReportsPerDay >= 1, "reports_per_day", "is %d; want at least 1", c.ReportsPerDay)
	p.Check(c.ReportBytes >= dossier.MaxReport, "report_bytes", "is %d; want at least that of the largest report, %d", c.ReportBytes, dossier.MaxReport)
	p.Check(c.OpenObjections >= 1, "open_objections", "is %d; want at least 1", c.OpenObjections)
	for i, n := range c.Never {
		p.Check(n.IsValid() && n == n.Masked(), fmt.Sprintf("never[%d]", i), "%s is not a prefix such as 198.51.100.0/24", n)
	}
	return p.Join()
}

func (c *Configuration) rules() merge.Thresholds {
	return merge.Thresholds{Floor: c.Floor, Witnesses: c.Witnesses, Shared: c.Shared, Overlap: c.Overlap}
}

// RosterReader is where the clearinghouse looks up members: a roster.Keeper.
type RosterReader interface {
	Current(now time.Time) (*roster.Held, error)
}

// Core is a clearinghouse. Its methods are safe for concurrent use between
// Start and Stop.
type Core struct {
	config Configuration
	db     *state.DB
	roster RosterReader
	own    []identity.ID
	now    func() time.Time
	// allow are hosts about which no report is published.
	allow *flow.AllowList

	queue   chan *pending
	stop    chan struct{}
	stopped chan struct{}

	mu     sync.Mutex // protects what is below
	day    string
	counts map[string]int // reports of each class on this day
	// live is the size of each class's live reports: those of the last batch and
	// what was taken since.
	live map[string]int64
}

// Dependencies are what a Core needs.
type Dependencies struct {
	DB     *state.DB
	Roster RosterReader
	// Own are the keys that reports may be addressed to.
	Own []identity.ID
	// Allow are hosts about which no report is published; nil is the list that
	// everybody has.
	Allow *flow.AllowList
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// New makes a Core; Start starts it.
func New(c Configuration, d Dependencies) (*Core, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Allow == nil {
		d.Allow = flow.NewAllowList()
	}
	return &Core{
		config: c, db: d.DB, roster: d.Roster, own: d.Own, now: d.Now, allow: d.Allow,
		queue: make(chan *pending, queued), stop: make(chan struct{}), stopped: make(chan struct{}),
		counts: map[string]int{}, live: map[string]int64{},
	}, nil
}

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate makes the tables. Start does; who only administers calls it alone.
func (h *Core) Migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return h.db.Migrate(ctx, "clearinghouse", sub)
}

// Start creates the tables and accepts reports from then on.
func (h *Core) Start(ctx context.Context) error {
	if err := h.Migrate(ctx); err != nil {
		return err
	}
	if err := h.countReports(ctx); err != nil {
		return err
	}
	go h.commit()
	return nil
}

// Stop waits until what was taken is on disk. What comes later is refused.
func (h *Core) Stop(ctx context.Context) error {
	close(h.stop)
	select {
	case <-h.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
