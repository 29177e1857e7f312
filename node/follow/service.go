// Package follow follows growing logs into the node's store, keeps the store
// within its bounds, computes the standard keys for each new day's salts, and
// serves health checks and metrics on its own port.
//
// Nothing that was acknowledged is lost when it ends, however it ends: what was
// not committed is read again from the logs.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/node/detection"
	"dragnet/node/ingest"
	"dragnet/store"
	"dragnet/store/clickhouse"
)

// Configuration of a service.
type Configuration struct {
	// Directory is the data directory; it is made where there is none.
	Directory string `yaml:"directory"`
	// ClickHouse is the address of a database that holds the flows instead,
	// such as clickhouse://dragnet@db.example:9000/flows; other nodes may use
	// the same. Its password is read from DRAGNET_CLICKHOUSE_PASSWORD.
	ClickHouse string `yaml:"clickhouse"`
	// Logs are files and directories of Zeek conn logs, Suricata's eve.json,
	// Squid's access.log and captures that are followed. A directory stands for all it holds at any depth.
	Logs []string `yaml:"logs"`
	// Every is how often the logs are looked at.
	Every time.Duration `yaml:"every"`
	// KeepDays is how much older than the newest flow a flow may become; 0
	// keeps all.
	KeepDays int `yaml:"keep_days"`
	// KeepBytes bounds the size of the data directory, the oldest flows going
	// first; 0 keeps all.
	KeepBytes int64 `yaml:"keep_bytes"`
	// Listen is where /livez, /readyz and /metrics are served; empty serves
	// them nowhere.
	Listen string `yaml:"listen"`
}

// DefaultConfiguration looks at no logs.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet", Logs: []string{}, Every: 5 * time.Second, KeepDays: 30, Listen: "127.0.0.1:9120"}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	switch {
	case c.Directory == "":
		return errors.New("store.directory: name a directory, such as /var/lib/dragnet")
	case c.Every < 100*time.Millisecond || c.Every > time.Hour:
		return fmt.Errorf("store.every is %v; want 100ms to 1h", c.Every)
	case c.KeepDays < 0 || c.KeepDays > 36500 || c.KeepBytes < 0:
		return errors.New("store: keep_days (at most 36500) and keep_bytes cannot be negative")
	}
	if c.ClickHouse != "" {
		if err := clickhouse.Check(c.ClickHouse); err != nil {
			return fmt.Errorf("store.clickhouse: %w", err)
		}
	}
	return c.validateListen()
}

// Place is where the flows are kept.
func (c *Configuration) Place() string {
	if c.ClickHouse != "" {
		return c.ClickHouse
	}
	return c.Directory
}

func (c *Configuration) validateListen() error {
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("store.listen: %w; want such as 127.0.0.1:9120", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("store.listen: %s is not a loopback address; what is served there is for this machine only", host)
	}
	return nil
}

// Service follows logs. Its methods are not safe for concurrent use.
type Service struct {
	config  Configuration
	log     *slog.Logger
	now     func() time.Time
	epochOf func(day string) string // nil: the day itself
	metrics *metrics

	place    store.Writer
	importer *ingest.Importer
	epoch    string
	pruned   time.Time
	seen     map[string]stamp
	// taken counts the flows imported in this turn, rushed those since memory
	// was given back.
	taken, rushed uint64

	// Watcher, if set before Start, sees the flows that are taken in.
	Watcher Watcher

	exports *exports // nil where nothing is collected

	server   *http.Server
	address  string
	ready    atomic.Bool
	lastTurn atomic.Int64 // Unix seconds of the last look at the logs
	stop     context.CancelFunc
	done     chan error
}

// Watcher is what looks at flows on their way in.
type Watcher interface {
	// Prime may read what was stored before.
	Prime(ctx context.Context, s detection.Scanner) error
	// Add sees flows, some of them again after a crash.
	Add(batch []flow.Flow)
	// Turn is called after each look at the logs.
	Turn(ctx context.Context, now time.Time) error
}

// stamp tells whether a file has changed since it was looked at.
type stamp struct {
	size int64
	mod  time.Time
}

// New prepares a service; Start begins.
func New(config Configuration, log *slog.Logger) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Service{config: config, log: log, now: time.Now, seen: map[string]stamp{}, metrics: newMetrics(), done: make(chan error, 1)}, nil
}

// Start opens the store, imports what the logs hold, and goes on
// following them until Stop, or until Failed tells why it cannot.
func (s *Service) Start(ctx context.Context) (err error) {
	s.epoch = s.today()
	if s.place, err = ingest.OpenWriter(ctx, s.config.Place(), s.epoch); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return errors.Join(err, s.place.Close())
	}
	if err := s.serve(); err != nil {
		return errors.Join(err, s.close())
	}
	if s.exports != nil {
		if err := s.exports.Start(ctx); err != nil {
			return errors.Join(err, s.closeServer(ctx), s.close())
		}
	}
	// What is started here is ended by Stop, not by the context of starting.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.done <- s.run(running) }()
	return nil
}

func (s *Service) begin(ctx context.Context) error {
	sources, err := s.place.Sources(ctx)
	if err != nil {
		return err
	}
	s.importer = ingest.NewImporter(sources, s.place)
	s.importer.Progress = func(n int) { s.metrics.read.Add(float64(n)) }
	if s.Watcher == nil {
		return nil
	}
	s.importer.Flows = s.Watcher.Add
	stored, err := ingest.OpenReader(ctx, s.config.Place())
	if err != nil {
		return err
	}
	return errors.Join(s.Watcher.Prime(ctx, stored), stored.Close())
}

// Failed gives the error that ended the service by itself.
func (s *Service) Failed() <-chan error { return s.done }

// Log is what was imported, for reading while the service runs: from Start to
// Stop.
func (s *Service) Log() flow.Log { return s.place.Log() }

// Metrics takes what others want to tell at /metrics.
func (s *Service) Metrics() prometheus.Registerer { return s.metrics.registry }

// Address is where /metrics is served.
func (s *Service) Address() string { return s.address }

// Stop commits what was read and closes the store. It waits no longer
// than ctx.
func (s *Service) Stop(ctx context.Context) error {
	s.ready.Store(false)
	s.stop()
	var err error
	select {
	case err = <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return errors.Join(err, s.closeServer(ctx), s.close())
}

func (s *Service) closeServer(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	return s.server.Shutdown(ctx)
}

func (s *Service) close() error { return s.place.Close() }

// today is the epoch whose keys are computed.
func (s *Service) today() string {
	day := s.now().UTC().Format(time.DateOnly)
	if s.epochOf != nil {
		return s.epochOf(day)
	}
	return day
}

// UseEpochs has keys computed under the epoch that a day has in the community,
// instead of the day itself. It is called before Start.
func (s *Service) UseEpochs(of func(day string) string) { s.epochOf = of }

// run reads the logs until it is stopped; a turn that was started is finished.
func (s *Service) run(ctx context.Context) error {
	tick := time.NewTicker(s.config.Every)
	defer tick.Stop()
	for {
		if err := s.turn(ctx); err != nil {
			return err
		}
		s.lastTurn.Store(s.now().Unix())
		s.ready.Store(true)
		if err := s.await(ctx, tick.C); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return s.endExports(context.WithoutCancel(ctx))
		}
	}
}

// await waits until the next turn is due, and takes exports that cannot wait.
func (s *Service) await(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			return nil
		case <-s.exports.full():
			if err := s.takeExports(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
}

// turn imports what is new and looks after the store. A log that cannot be read
// is not the end; a store that cannot be written is.
func (s *Service) turn(ctx context.Context) error {
	for _, path := range s.config.Logs {
		files, err := ingest.Files(path)
		if err != nil {
			s.complain(path, err)
			continue
		}
		for _, file := range files {
			if ctx.Err() != nil {
				return s.importer.Commit()
			}
			if err := s.follow(file); err != nil {
				return err
			}
		}
	}
	if err := s.takeExports(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := s.importer.Commit(); err != nil {
		return err
	}
	if s.Watcher != nil {
		if err := s.Watcher.Turn(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Error("detection", "err", err) // the logs go on being followed
		}
	}
	if err := s.rest(); err != nil {
		return err
	}
	return s.maintain(ctx)
}

// A node that has caught up gives back the memory that the rush took: when it
// has imported rush flows since, and less than a trickle in this turn.
const (
	rush    = 100_000
	trickle = 10_000
)

func (s *Service) rest() error {
	now := s.taken
	s.taken, s.rushed = 0, s.rushed+now
	if now >= trickle || s.rushed < rush {
		return nil
	}
	s.rushed = 0
	if err := s.place.ReleaseMemory(); err != nil {
		return err
	}
	debug.FreeOSMemory()
	return nil
}

// follow imports what a file has grown by.
func (s *Service) follow(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil // it was renamed since it was listed; its content is found again
	}
	at := stamp{info.Size(), info.ModTime()}
	if s.seen[file] == at {
		return nil
	}
	// A turn is short, and to interrupt it would save little.
	done, err := s.importer.Import(context.Background(), file)
	var broken *os.PathError
	switch {
	case errors.As(err, &broken) && !inside(s.config.Directory, broken.Path):
		s.complain(file, err)
		return nil
	case err != nil:
		return err
	case done.Status == ingest.Busy:
		s.log.Debug("left to another node", "file", file)
		return nil // to be looked at again, though it may not change
	case done.Status == ingest.Refused:
		s.complain(file, errors.New(done.Problem))
	case done.Flows > 0:
		s.log.Info("imported", "file", file, "status", done.Status, "flows", done.Flows, "skipped", done.Skipped)
	}
	s.taken += done.Flows
	s.metrics.imported.Add(float64(done.Flows))
	s.metrics.skipped.Add(float64(done.Skipped))
	s.seen[file] = at
	return nil
}

func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func (s *Service) complain(path string, err error) {
	s.metrics.troubles.Inc()
	s.log.Warn("not imported", "path", path, "err", err)
}

// interrupted passes over an error that only says that the service is stopped:
// what it was doing goes on at the next start.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pruneEvery is how often retention looks for what is too old.
const pruneEvery = 10 * time.Minute

func (s *Service) maintain(ctx context.Context) error {
	if now := s.now(); now.Sub(s.pruned).Abs() >= pruneEvery {
		s.pruned = now
		keep := store.Keep{Age: time.Duration(s.config.KeepDays) * 24 * time.Hour, Bytes: s.config.KeepBytes}
		removed, err := s.place.Prune(ctx, keep, now)
		if err != nil {
			return interrupted(ctx, err)
		}
		for _, g := range removed {
			s.metrics.removed.Add(float64(g.Flows))
			s.log.Info("removed what is beyond retention", "flows", g.Flows, "from", g.From, "to", g.To)
		}
	}
	if day := s.today(); day != s.epoch {
		if err := s.place.Rotate(ctx, day); err != nil {
			return interrupted(ctx, err)
		}
		s.epoch = day
	}
	return s.measure(ctx)
}

// measure tells the metrics what is stored.
func (s *Service) measure(ctx context.Context) error {
	cov, err := s.place.Coverage(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	size, err := s.place.Bytes(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	s.metrics.stored.Set(float64(cov.Flows))
	s.metrics.bytes.Set(float64(size))
	if cov.Flows > 0 {
		s.metrics.newest.Set(float64(cov.To) / float64(flow.Time(time.Second)))
	}
	return nil
}
