package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/internal/admin"
	"dragnet/internal/admission"
	"dragnet/internal/run"
	"dragnet/wire/exchange"
	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// Service serves a relay over the network.
type Service struct {
	mailboxes *Mailboxes
	deps      Dependencies
	now       func() time.Time
	group     *run.Group
	messages  waiters // witnesses in Fetch
	answers   waiters // detectives in Collect
	gate      *admission.Gate

	mu      sync.Mutex                // guards all below
	heard   map[identity.ID]time.Time // witnesses that polled since the last sweep
	failing error                     // why the last sweep failed
}

// Membership is what the roster says of a key.
type Membership struct {
	// Organisation is the member's class.
	Organisation string
	// Ask says that it may ask.
	Ask bool
}

// Dependencies of a Service.
type Dependencies struct {
	// Member is what the roster says of a key now, and whether it lists it.
	Member func(identity.Public) (Membership, bool)
	Log    *slog.Logger
}

// NewService serves a relay. Any key may register as a witness.
func NewService(mailboxes *Mailboxes, d Dependencies) *Service {
	return &Service{group: run.NewGroup(), mailboxes: mailboxes, deps: d, now: time.Now, heard: map[identity.ID]time.Time{}, gate: admission.NewGate(admission.Limits{
		// Most of these requests only wait for messages.
		Places: 4096, Reading: 16, Bytes: 512 << 20, Body: int64(max(mailboxes.config.AnswerBytes, exchange.MaxMessage)) + 1<<20, Time: time.Minute,
	})}
}

// Handler returns the path to mount and its handler.
func (s *Service) Handler() (string, http.Handler) {
	path, handler := exchangev1connect.NewRelayServiceHandler(handler{s}, exchange.Options(exchange.MaxMessage+1<<20)...)
	admitted := s.gate.Handler(handler, s.callerOf, refuseRequest)
	return path, exchange.WithPeer(exchange.Only(func(identity.Public) bool { return true }, s.onlyAddressed(admitted)))
}

var refusal = connect.NewErrorWriter()

// refuseRequest answers what the gate does not admit.
func refuseRequest(w http.ResponseWriter, r *http.Request, err error) {
	code := connect.CodeUnavailable
	if errors.Is(err, admission.ErrTooLarge) {
		code = connect.CodeInvalidArgument
	}
	refusal.Write(w, r, connect.NewError(code, err))
}

// callerOf counts requests of members by their organisation, and answers by
// witnesses that a message was for by their keys; all others by their address, since
// anybody can make keys. Whoever is no member stays a stranger: anybody may register,
// and get a message to answer.
func (s *Service) callerOf(r *http.Request) admission.Caller {
	p, _ := exchange.Peer(r.Context())
	if member, ok := s.deps.Member(p); ok {
		return admission.Caller{Name: member.Organisation, Known: true}
	}
	if r.URL.Path == exchangev1connect.RelayServiceAnswerMessageProcedure {
		return admission.Caller{Name: "key " + p.ID().String()}
	}
	return admission.Address(r)
}

// onlyAddressed refuses an answer by a key that has no message to answer, before
// anything of it is read.
func (s *Service) onlyAddressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == exchangev1connect.RelayServiceAnswerMessageProcedure {
			p, _ := exchange.Peer(r.Context())
			if has, err := s.mailboxes.hasMessage(r.Context(), p.ID()); err != nil || !has {
				refusal.Write(w, r, connect.NewError(connect.CodeNotFound, errors.Join(err, ErrUnknown)))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Start brings the tables up to date and deletes expired messages until Stop.
func (s *Service) Start(ctx context.Context) error {
	if err := s.mailboxes.Migrate(ctx); err != nil {
		return err
	}
	s.group.GoWithoutError(s.sweep)
	return nil
}

// Failed receives the error that ended the relay.
func (s *Service) Failed() <-chan error { return s.group.Failed() }

// Stop ends deleting.
func (s *Service) Stop(ctx context.Context) error { return s.group.Stop(ctx) }

// sweepEvery is how often expired messages are deleted.
var sweepEvery = time.Minute // a variable for tests

// sweep goes on after a failure: a database that is locked or away for a while ends
// neither the relay nor what else runs beside it.
func (s *Service) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		err := s.sweepOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if was := s.setFailing(err); err != nil {
			s.deps.Log.Warn("delete expired messages failed; trying again", "err", err)
		} else if was != nil {
			s.deps.Log.Info("the relay's database works again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Service) sweepOnce(ctx context.Context) error {
	return errors.Join(s.writeHeard(ctx, s.takeHeard()), s.mailboxes.Expire(ctx, s.now()))
}

func (s *Service) takeHeard() map[identity.ID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := s.heard
	s.heard = map[identity.ID]time.Time{}
	return heard
}

// writeHeard notes in the database who polled, and keeps it for the next try if it
// cannot.
func (s *Service) writeHeard(ctx context.Context, heard map[identity.ID]time.Time) error {
	err := s.mailboxes.noteHeard(ctx, heard)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range heard {
		if _, newer := s.heard[id]; !newer && len(s.heard) < s.maxHeard() {
			s.heard[id] = at
		}
	}
	return err
}

// maxHeard bounds heard: anybody may poll, also who has no card.
func (s *Service) maxHeard() int { return 2 * s.mailboxes.config.Witnesses }

func (s *Service) setFailing(err error) (was error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.failing = s.failing, err
	return was
}

// Status says whether the relay does its work.
func (s *Service) Status(ctx context.Context) admin.Status {
	out := admin.Status{Part: "relay", Level: admin.OK}
	s.mu.Lock()
	err := s.failing
	s.mu.Unlock()
	cards, messages, counted := s.mailboxes.Count(ctx)
	if err = errors.Join(counted, err); err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("the database cannot be used: %v", err)
		return out
	}
	out.Text = fmt.Sprintf("%d witnesses, %d messages", cards, messages)
	if most := s.mailboxes.config.Witnesses; cards >= most {
		out.Level, out.Hint = admin.Attention, "no room for more witnesses: raise relay.witnesses"
	}
	return out
}

// noteHeard remembers that a witness polled, until the next sweep or until too many did:
// polls of keys without a card must not hide those of witnesses.
func (s *Service) noteHeard(ctx context.Context, witness identity.ID) error {
	s.mu.Lock()
	_, known := s.heard[witness]
	full := !known && len(s.heard) >= s.maxHeard()
	s.mu.Unlock()
	if full {
		if err := s.writeHeard(ctx, s.takeHeard()); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[witness] = s.now()
	return nil
}

// handler keeps the RPC methods out of Service's method set.
type handler struct{ s *Service }

// withCode gives an error the Connect code for its cause.
func withCode(err error) error {
	code := connect.CodeInternal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFull):
		code = connect.CodeResourceExhausted
	case errors.Is(err, ErrUnknown):
		code = connect.CodeNotFound
	case errors.Is(err, ErrConflict):
		code = connect.CodeAlreadyExists
	case errors.Is(err, exchange.ErrTooLarge):
		code = connect.CodeInvalidArgument
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = connect.CodeCanceled
	}
	return connect.NewError(code, err)
}

func invalidArgument(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }

func (h handler) callerID(ctx context.Context) identity.ID {
	p, _ := exchange.Peer(ctx) // Handler admits no caller without a key
	return p.ID()
}

// requireDetective is the caller and its organisation if it may ask.
func (h handler) requireDetective(ctx context.Context) (Sender, error) {
	if p, ok := exchange.Peer(ctx); ok {
		if m, ok := h.s.deps.Member(p); ok && m.Ask {
			return Sender{p.ID(), m.Organisation}, nil
		}
	}
	return Sender{}, connect.NewError(connect.CodePermissionDenied, errors.New("only detectives of the roster may do this"))
}

// RegisterWitness implements exchangev1connect.RelayServiceHandler.
func (h handler) RegisterWitness(ctx context.Context, r *exchangev1.RegisterWitnessRequest) (*exchangev1.RegisterWitnessResponse, error) {
	card, err := exchange.OpenCard(r.Card, h.s.now())
	if err != nil {
		return nil, invalidArgument(err)
	}
	if card.Key.ID() != h.callerID(ctx) {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("this card belongs to another witness"))
	}
	w := Registrant{Key: card.Key.ID()}
	_, w.Member = h.s.deps.Member(card.Key)
	w.Address, _ = exchange.PeerAddress(ctx)
	return &exchangev1.RegisterWitnessResponse{}, withCode(h.s.mailboxes.Register(ctx, h.s.now(), w, r.Card))
}

const cardsPerPage = 500

// ListWitnesses implements exchangev1connect.RelayServiceHandler.
func (h handler) ListWitnesses(ctx context.Context, r *exchangev1.ListWitnessesRequest) (*exchangev1.ListWitnessesResponse, error) {
	if _, err := h.requireDetective(ctx); err != nil {
		return nil, err
	}
	cards, last, err := h.s.mailboxes.Cards(ctx, r.After, cardsPerPage)
	if len(cards) < cardsPerPage {
		last = nil
	}
	return &exchangev1.ListWitnessesResponse{Cards: cards, Next: last}, withCode(err)
}

// PostMessages implements exchangev1connect.RelayServiceHandler.
func (h handler) PostMessages(ctx context.Context, r *exchangev1.PostMessagesRequest) (*exchangev1.PostMessagesResponse, error) {
	sender, err := h.requireDetective(ctx)
	if err != nil {
		return nil, err
	}
	messages := make([]exchange.Message, len(r.Messages))
	for i, m := range r.Messages {
		if messages[i], err = exchange.ReadMessage(m); err != nil {
			return nil, invalidArgument(err)
		}
	}
	if err := h.s.mailboxes.Post(ctx, h.s.now(), sender, messages); err != nil {
		return nil, withCode(err)
	}
	for i := range messages {
		h.s.messages.notify(messages[i].To)
	}
	return &exchangev1.PostMessagesResponse{}, nil
}

// FetchMessages implements exchangev1connect.RelayServiceHandler.
func (h handler) FetchMessages(ctx context.Context, r *exchangev1.FetchMessagesRequest) (*exchangev1.FetchMessagesResponse, error) {
	witness := h.callerID(ctx)
	if err := h.s.noteHeard(ctx, witness); err != nil {
		return nil, withCode(err)
	}
	out := &exchangev1.FetchMessagesResponse{}
	err := h.s.messages.waitUntil(ctx, witness, r.Wait.AsDuration(), func() (bool, error) {
		messages, err := h.s.mailboxes.Fetch(ctx, h.s.now(), witness)
		for _, l := range messages {
			out.Messages = append(out.Messages, &exchangev1.Message{Id: l.ID[:], To: l.To[:], Expires: timestamppb.New(l.Expires), Sealed: l.Sealed})
		}
		return len(messages) > 0, err
	})
	return out, withCode(err)
}

// AnswerMessage implements exchangev1connect.RelayServiceHandler.
func (h handler) AnswerMessage(ctx context.Context, stream *connect.ClientStream[exchangev1.AnswerMessageRequest]) (*exchangev1.AnswerMessageResponse, error) {
	var message exchange.MessageID
	if !stream.Receive() || len(stream.Msg().Message) != len(message) {
		return nil, invalidArgument(errors.Join(errors.New("an answer must begin with its message's number"), stream.Err()))
	}
	message = exchange.MessageID(stream.Msg().Message)
	var data []byte
	for stream.Receive() {
		if data = append(data, stream.Msg().Chunk...); len(data) > h.s.mailboxes.config.AnswerBytes {
			return nil, withCode(exchange.ErrTooLarge)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err // an unfinished answer is not kept
	}
	sender, err := h.s.mailboxes.Answer(ctx, h.s.now(), h.callerID(ctx), message, data)
	if err != nil {
		return nil, withCode(err)
	}
	h.s.answers.notify(sender)
	return &exchangev1.AnswerMessageResponse{}, nil
}

// CollectAnswers implements exchangev1connect.RelayServiceHandler.
func (h handler) CollectAnswers(ctx context.Context, r *exchangev1.CollectAnswersRequest, stream *connect.ServerStream[exchangev1.CollectAnswersResponse]) error {
	sender, err := h.requireDetective(ctx)
	if err != nil {
		return err
	}
	wanted, err := readIDs(r.Messages)
	if err != nil {
		return err
	}
	var there []exchange.MessageID
	err = h.s.answers.waitUntil(ctx, sender.Key, r.Wait.AsDuration(), func() (bool, error) {
		there, err = h.s.mailboxes.Answered(ctx, sender.Key, wanted)
		return len(there) > 0, err
	})
	if err != nil {
		return withCode(err)
	}
	for _, id := range there {
		answer, err := h.s.mailboxes.Collect(ctx, sender.Key, id)
		if err != nil {
			return withCode(err)
		}
		if err := stream.Send(&exchangev1.CollectAnswersResponse{Message: id[:]}); err != nil {
			return err
		}
		if err := exchange.Chunks(answer, func(c []byte) error { return stream.Send(&exchangev1.CollectAnswersResponse{Chunk: c}) }); err != nil {
			return err
		}
	}
	return nil
}

// maxIDs bounds the messages named in one request.
const maxIDs = 20_000

func readIDs(raw [][]byte) ([]exchange.MessageID, error) {
	if len(raw) > maxIDs {
		return nil, invalidArgument(errors.New("too many messages in one request"))
	}
	out := make([]exchange.MessageID, len(raw))
	for i, id := range raw {
		if len(id) != len(out[i]) {
			return nil, invalidArgument(errors.New("a message's number has 16 bytes"))
		}
		out[i] = exchange.MessageID(id)
	}
	return out, nil
}

// DiscardMessages implements exchangev1connect.RelayServiceHandler.
func (h handler) DiscardMessages(ctx context.Context, r *exchangev1.DiscardMessagesRequest) (*exchangev1.DiscardMessagesResponse, error) {
	sender, err := h.requireDetective(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := readIDs(r.Messages)
	if err != nil {
		return nil, err
	}
	return &exchangev1.DiscardMessagesResponse{}, withCode(h.s.mailboxes.Discard(ctx, sender.Key, ids))
}
