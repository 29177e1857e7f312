// Package subscribe follows a clearinghouse's mirror and proposes to block what
// it publishes. The judge decides, by the node's own allow list, budget and
// approval: nothing is blocked because somebody else published it.
package subscribe

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/publish/mirror"
	"dragnet/publish/pointer"
	"dragnet/wire/identity"
)

// Configuration of the subscription.
type Configuration struct {
	// URL is that of a mirror, such as https://feed.example.org/mirror/, or
	// dht://HOST:PORT,... to find the mirrors by nodes of a distributed hash
	// table; empty subscribes to none.
	URL string `yaml:"url"`
	// Publisher is the public key of the clearinghouse.
	Publisher string `yaml:"publisher"`
	// Directory is where the copy is kept; empty is feed in the data directory.
	Directory string `yaml:"directory"`
	// Every is how often to look for a newer publication.
	Every time.Duration `yaml:"every"`
	// MinConfidence is what a host needs to be proposed.
	MinConfidence int `yaml:"min_confidence"`
	// Most is how many hosts are proposed, those of highest confidence.
	Most int `yaml:"most"`
}

// DefaultConfiguration subscribes to nothing.
func DefaultConfiguration() Configuration {
	return Configuration{Every: 15 * time.Minute, MinConfidence: 75, Most: 1000}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.URL == "" {
		return nil
	}
	_, err := identity.ParsePublic(c.Publisher)
	p.Error("publisher", err)
	p.Check(c.Every >= time.Second, "every", "is %v; want at least 1s", c.Every)
	p.Check(c.MinConfidence >= 1 && c.MinConfidence <= 100, "min_confidence", "is %d; want 1 to 100", c.MinConfidence)
	p.Check(c.Most >= 1 && c.Most <= 100_000, "most", "is %d; want 1 to 100000", c.Most)
	return p.Join()
}

// Dependencies of a subscriber.
type Dependencies struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger
}

// who is the name under which hosts are proposed.
const who = "feed"

// Subscriber follows a mirror. Start and Stop are for one goroutine.
type Subscriber struct {
	config Configuration
	ledger *ledger.Ledger
	log    *slog.Logger
	group  *run.Group
	copier mirror.Copier
	last   int64 // the publication that was proposed from
}

// New makes a subscriber; Start starts it.
func New(c Configuration, d Dependencies) (*Subscriber, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	publisher, err := identity.ParsePublic(c.Publisher)
	return &Subscriber{config: c, ledger: d.Ledger, log: d.Log, group: run.NewGroup(), copier: mirror.Copier{URL: c.URL, Directory: c.Directory, Publisher: publisher}}, err
}

// Start follows the mirror until Stop. A mirror that cannot be reached is not an
// error: it is tried again.
func (s *Subscriber) Start(context.Context) error {
	s.group.Go(s.follow)
	return nil
}

// Failed receives the error that ended the subscriber.
func (s *Subscriber) Failed() <-chan error { return s.group.Failed() }

// Stop ends a copy under way.
func (s *Subscriber) Stop(ctx context.Context) error { return s.group.Stop(ctx) }

func (s *Subscriber) follow(ctx context.Context) error {
	for {
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("copy publication failed", "url", s.config.URL, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.config.Every):
		}
	}
}

// turn copies what is new, proposes it, and takes back what was proposed before
// and is no longer published.
func (s *Subscriber) turn(ctx context.Context) error {
	done, err := pointer.Copy(ctx, s.copier)
	if err != nil {
		return err
	}
	if number := done.Manifest.Head.Number; number != s.last {
		if err := s.propose(ctx); err != nil {
			return err
		}
		s.last = number
	}
	return nil
}

// listed is one line of entries.jsonl.
type listed struct {
	dossier.Entry
	Reason string `json:"reason"`
}

// maxLine bounds a line of entries.jsonl.
const maxLine = 64 << 10

// readEntries returns the sure entries of the copy, one for each host.
func (s *Subscriber) readEntries(now flow.Time) (map[netip.Addr]listed, error) {
	f, err := os.Open(filepath.Join(s.config.Directory, mirror.Current, "entries.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[netip.Addr]listed{}
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, maxLine)
	for line := 1; scan.Scan(); line++ {
		var e listed
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.Name(), line, err)
		}
		if e.Confidence < s.config.MinConfidence || e.Until <= now || !flow.Global(e.Host) {
			continue
		}
		if was, ok := all[e.Host]; !ok || was.Confidence < e.Confidence {
			all[e.Host] = e
		}
	}
	return all, scan.Err()
}

func (s *Subscriber) propose(ctx context.Context) error {
	now := flow.FromTime(time.Now())
	entries, err := s.readEntries(now)
	if err != nil {
		return err
	}
	known, err := s.ledger.Since(ctx, now)
	if err != nil {
		return err
	}
	spared := sparedByOthers(known)
	var wanted []listed
	for _, e := range entries {
		if !spared[single(e.Host)] {
			wanted = append(wanted, e)
		}
	}
	slices.SortFunc(wanted, func(a, b listed) int { return cmp.Or(cmp.Compare(b.Confidence, a.Confidence), a.Host.Compare(b.Host)) })
	if len(wanted) > s.config.Most {
		s.log.Warn("the publication lists more hosts than may be proposed", "hosts", len(wanted), "most", s.config.Most)
		wanted = wanted[:s.config.Most]
	}
	refused, withdrawn := 0, 0
	err = s.ledger.Judge(ctx, now, func(j *decide.Judge) error {
		for _, e := range wanted {
			_, err := j.Propose(now, dossier.Proposal{Target: single(e.Host), Who: who, Why: e.Reason, Findings: []string{}, TTL: time.Duration(e.Until - now)})
			if err != nil {
				refused++
			}
		}
		for i := range known {
			d := &known[i]
			if _, still := entries[d.Target.Addr()]; d.Steps[0].Who != who || still || d.Verdict != dossier.Active && d.Verdict != dossier.DryRun && d.Verdict != dossier.Proposed {
				continue
			}
			if _, err := j.Undo(now, d.ID, who, "no longer published"); err != nil && !errors.Is(err, decide.ErrOver) {
				return err
			}
			withdrawn++
		}
		return nil
	})
	if err == nil {
		s.log.Info("publication copied", "hosts", len(entries), "proposed", len(wanted), "refused", refused, "withdrawn", withdrawn)
	}
	return err
}

// sparedByOthers are the targets that an operator took back or refused.
func sparedByOthers(known []dossier.Decision) map[netip.Prefix]bool {
	spared := map[netip.Prefix]bool{}
	for i := range known {
		d := &known[i]
		last := d.Steps[len(d.Steps)-1]
		if (d.Verdict == dossier.Undone || d.Verdict == dossier.Refused) && len(d.Steps) > 1 && last.Who != who {
			spared[d.Target] = true
		}
	}
	return spared
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
