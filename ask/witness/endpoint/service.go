package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"dragnet/ask/witness"
	"dragnet/ask/witness/audit"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/admission"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/wire/exchange"
	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// Dependencies of a witness service.
type Dependencies struct {
	// Site holds the networks that the witness answers for, and those about
	// which it never testifies.
	Site flow.Site
	// Log is what was seen; it is called by Start.
	Log func() flow.Log
	// DB keeps the audit log; it is open by Start.
	DB *state.DB
	// Key and Held are the files of the private key, unless the configuration
	// names one, and of the newest roster.
	Key, Held string
	// Epochs are shared with what computes keys as flows arrive; needed if a
	// clearinghouse is configured.
	Epochs *Epochs
	Logger *slog.Logger
	// Admin gets the metrics; it may be nil.
	Admin *admin.Server
}

// Service answers questions. Start and Stop are called once.
type Service struct {
	config  Configuration
	deps    Dependencies
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	working *admission.Fair
	group   *run.Group
	unknown chan struct{} // says that an unknown key asked

	mu            sync.Mutex // guards all below
	recordProblem error      // why the record's head was not cosigned

	key     *identity.Key
	audit   *audit.Trail
	members *members
	witness *witness.Witness
	server  *exchange.Server
}

// New makes a witness; Start starts it. A site without networks is an error: a
// witness answers no question before its own networks are configured.
func New(config Configuration, d Dependencies) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if !config.Off() && (len(d.Site.Networks) == 0 || d.Site.Name == "") {
		return nil, errors.New("site.name and site.networks must be set before detectives may ask")
	}
	if config.Clearinghouse.URL != "" && d.Epochs == nil {
		return nil, errors.New("the epochs of a clearinghouse need a file")
	}
	return &Service{
		config: config, deps: d, log: d.Logger, now: time.Now, metrics: newMetrics(d.Admin.Metrics()),
		working: admission.NewFair(config.Concurrent), group: run.NewGroup(), unknown: make(chan struct{}, 1),
	}, nil
}

// Start opens the audit log and accepts questions.
func (s *Service) Start(ctx context.Context) (err error) {
	if err := s.openParts(ctx); err != nil {
		return err
	}
	s.deps.Admin.AddStatus(s.status)
	if s.config.Listen != "" {
		path, handler := exchangev1connect.NewWitnessServiceHandler(witnessHandler{s}, exchange.Options(maxQuestionMessage)...)
		mux := http.NewServeMux()
		mux.Handle(path, exchange.Only(s.isKnown, s.admit(handler)))
		if s.server, err = exchange.Listen(s.config.Listen, s.key, mux, s.log); err != nil {
			return err
		}
		s.group.Go(func(context.Context) error { return s.server.Serve() })
	}
	s.group.GoWithoutError(s.maintain)
	if s.config.Clearinghouse.URL != "" {
		s.group.GoWithoutError(s.followClearinghouse)
	}
	for i := range s.config.Relays {
		s.group.GoWithoutError(func(ctx context.Context) { s.pollRelay(ctx, &s.config.Relays[i]) })
	}
	if weaker := s.config.Policy.Weaker(); len(weaker) > 0 {
		s.log.Warn("the witness's policy protects less than the defaults", "in", strings.Join(weaker, "; "))
	}
	s.log.Info("witness started", "listen", s.Address(), "relays", len(s.config.Relays), "key", s.Key())
	return nil
}

func (s *Service) openParts(ctx context.Context) (err error) {
	if s.key, err = identity.LoadOrCreate(cmp.Or(s.config.Key, s.deps.Key)); err != nil {
		return fmt.Errorf("witness key: %w", err)
	}
	if s.members, err = openMembers(s.config.Roster, s.deps.Held, s.log); err != nil {
		return fmt.Errorf("witness roster: %w", err)
	}
	s.members.reload(s.now())
	if s.audit, err = audit.Open(ctx, s.deps.DB); err != nil {
		return err
	}
	bounds := s.config.Limits
	bounds.TooCommon = s.config.Policy.TooCommon
	// The name is one that no other witness can testify under.
	s.witness, err = witness.New(bounds, s.key.ID().String(), s.deps.Log(), s.deps.Site.Silent)
	return err
}

// isKnown reports whether a key may ask now.
func (s *Service) isKnown(p identity.Public) bool {
	_, _, ok := s.members.findDetective(p.ID(), s.now())
	if !ok {
		s.metrics.rejected.Inc()
		s.fetchSoon()
	}
	return ok
}

// Bounds of the questions that wait: bytes in all, and of one organisation's at a
// time.
const (
	waitingBytes = 256 << 20
	readAtOnce   = 16
	questionTime = time.Minute
)

// admit reads questions within bounds before they wait for their turn.
func (s *Service) admit(next http.Handler) http.Handler {
	gate := admission.NewGate(admission.Limits{Places: 1 << 14, Reading: readAtOnce, Bytes: waitingBytes, Body: maxQuestionMessage + 1<<10, Time: questionTime})
	refuse := connect.NewErrorWriter()
	return gate.Handler(next, func(r *http.Request) admission.Caller {
		p, _ := exchange.Peer(r.Context()) // Only admits no others
		_, asker, _ := s.members.findDetective(p.ID(), s.now())
		return admission.Caller{Name: asker.Class, Known: true}
	}, func(w http.ResponseWriter, r *http.Request, err error) {
		refuse.Write(w, r, connect.NewError(connect.CodeResourceExhausted, err))
	})
}

func (s *Service) setRecordProblem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordProblem = err
}

// Failed receives the error that ended the witness.
func (s *Service) Failed() <-chan error { return s.group.Failed() }

// Address is the address that detectives connect to; empty if there is none.
func (s *Service) Address() string {
	if s.server == nil {
		return ""
	}
	return s.server.Address()
}

// Key is the public key that detectives pin.
func (s *Service) Key() identity.Public { return s.key.Public() }

// Stop waits for running answers, at most until ctx ends.
func (s *Service) Stop(ctx context.Context) error {
	var err error
	if s.server != nil {
		err = s.server.Shutdown(ctx)
	}
	return errors.Join(err, s.group.Stop(ctx))
}

// ReloadRoster reads the roster's file again; a roster that is not newer changes
// nothing.
func (s *Service) ReloadRoster() { s.members.reload(s.now()) }

// maintenanceInterval is how often the roster's file is checked.
const maintenanceInterval = 10 * time.Second

func (s *Service) maintain(ctx context.Context) {
	tick := time.NewTicker(maintenanceInterval)
	defer tick.Stop()
	forgotten := time.Time{}
	for {
		now := s.now()
		s.members.reload(now)
		if err := s.members.checkReady(now); err != nil {
			s.log.Warn("not answering: no valid roster", "err", err)
		}
		if now.Sub(forgotten) > time.Hour {
			forgotten = now
			if err := s.audit.Forget(ctx, now, &s.config.Policy); err != nil && ctx.Err() == nil {
				s.log.Warn("delete old audit history failed", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const maxQuestionMessage = exchange.MaxMessage + 1<<10

// witnessHandler keeps the RPC methods out of Service's method set.
type witnessHandler struct{ s *Service }

// AskQuestion implements exchangev1connect.WitnessServiceHandler.
func (h witnessHandler) AskQuestion(ctx context.Context, r *exchangev1.AskQuestionRequest, out *connect.ServerStream[exchangev1.AskQuestionResponse]) error {
	a, err := h.s.answerQuestion(ctx, r.Envelope, "direct")
	if err != nil {
		return h.s.statusError(err)
	}
	// The envelope is used up now: an asker that loses the connection asks
	// again in a new one.
	if err := a.finish(ctx); err != nil {
		return h.s.statusError(err)
	}
	return exchange.Chunks(a.envelope, func(c []byte) error { return out.Send(&exchangev1.AskQuestionResponse{Chunk: c}) })
}

// statusError returns an error for the asker: its own mistake in full, an internal
// failure without details.
func (s *Service) statusError(err error) error {
	switch {
	case errors.Is(err, audit.ErrReplayed):
		s.metrics.rejected.Inc()
		return connect.NewError(connect.CodeAlreadyExists, err)
	case errors.Is(err, audit.ErrFlood), errors.Is(err, admission.ErrBusy):
		s.metrics.rejected.Inc()
		return connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		s.metrics.troubles.Inc()
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the question took too long"))
	case isInternal(err):
		s.metrics.troubles.Inc()
		s.log.Error("answer question failed", "err", err)
		return connect.NewError(connect.CodeInternal, errors.New("the witness cannot answer now"))
	}
	s.metrics.rejected.Inc()
	return connect.NewError(connect.CodeInvalidArgument, err)
}
