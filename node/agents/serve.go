package agents

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"

	"dragnet/internal/admission"
	"dragnet/internal/state"
	"dragnet/node/api"
	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/agent/v1/agentv1connect"
)

// Service serves agents.
func (r *Registry) Service() api.Service {
	path, handler := agentv1connect.NewAgentServiceHandler(agentService{r}, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: r.limitRequests(handler), Access: api.Everyone}
}

var errorWriter = connect.NewErrorWriter()

// maxEnrol bounds a request without a member's certificate, in bytes.
const maxEnrol = 64 << 10

// limitRequests bounds what strangers can send, and how many requests with items are
// in memory at a time, of which one agent has a quarter.
func (r *Registry) limitRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case api.PeerOf(q.Context()).Name == "":
			q.Body = http.MaxBytesReader(w, q.Body, maxEnrol)
		case q.URL.Path == agentv1connect.AgentServiceSendItemsProcedure:
			agent := admission.Caller{Name: api.PeerOf(q.Context()).Name, Known: true}
			if err := r.sending.Acquire(q.Context(), agent); err != nil {
				_ = errorWriter.Write(w, q, connect.NewError(connect.CodeUnavailable, err)) // the agent went away
				return
			}
			defer r.sending.Release(agent)
		}
		next.ServeHTTP(w, q)
	})
}

// agentService serves agents; each method but EnrolAgent needs a member's
// certificate.
type agentService struct{ r *Registry }

// callerOf returns the agent that calls. Operators use Members instead.
func callerOf(ctx context.Context) (From, error) {
	p := api.PeerOf(ctx)
	if p.Name == "" {
		return From{}, connect.NewError(connect.CodeUnauthenticated, errors.New("show the certificate of an enrolled agent"))
	}
	return From{p.Name, p.Role}, nil
}

// withCode gives an error the code from which the agent knows what to do.
func withCode(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrWrong):
		return connect.NewError(connect.CodeInvalidArgument, errors.New(strings.TrimPrefix(err.Error(), ErrWrong.Error()+": ")))
	case errors.Is(err, ErrUnknown):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, ErrToken), errors.Is(err, ErrRevoked):
		return connect.NewError(connect.CodePermissionDenied, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return connect.NewError(connect.CodeUnavailable, err)
}

// sanitizeText makes text that a member sent safe to print: at most most bytes,
// valid UTF-8, control characters replaced by spaces.
func sanitizeText(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return ' '
		}
		return c
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

func (c agentService) EnrolAgent(ctx context.Context, m *agentv1.EnrolAgentRequest) (*agentv1.EnrolAgentResponse, error) {
	if len(m.Secret) != 16 {
		return nil, withCode(ErrToken)
	}
	digest := sha256.Sum256(m.Secret)
	got, err := c.r.redeemToken(ctx, hex.EncodeToString(digest[:]), m.Request, applicant{sanitizeText(m.Host, 255), sanitizeText(m.Release, 64), sanitizeText(m.Role, 64)})
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, errMadeUp) {
			level = slog.LevelDebug // strangers can ask as often as they like
		}
		c.r.log.Log(ctx, level, "enrolment refused", "host", sanitizeText(m.Host, 255), "err", err)
		return nil, withCode(err)
	}
	c.r.log.Info("agent enrolled", "name", got.name, "role", got.role, "host", sanitizeText(m.Host, 255))
	return &agentv1.EnrolAgentResponse{Name: got.name, Role: got.role, Certificate: got.certificate.Raw, Authority: c.r.authority.Certificate()}, nil
}

func (c agentService) RenewCertificate(ctx context.Context, m *agentv1.RenewCertificateRequest) (*agentv1.RenewCertificateResponse, error) {
	from, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	certificate, err := c.r.renewCertificate(ctx, from.Name, from.Role, m.Request)
	if err != nil {
		return nil, withCode(err)
	}
	c.r.log.Info("certificate renewed", "name", from.Name, "until", certificate.NotAfter)
	return &agentv1.RenewCertificateResponse{Certificate: certificate.Raw}, nil
}

// maxWait bounds how long a request waits for a new document.
const maxWait = time.Minute

func (c agentService) GetConfiguration(ctx context.Context, m *agentv1.GetConfigurationRequest) (*agentv1.GetConfigurationResponse, error) {
	from, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.r.noteContact(ctx, from.Name, m); err != nil {
		return nil, withCode(err)
	}
	wait := time.NewTimer(min(m.Wait.AsDuration(), maxWait))
	defer wait.Stop()
	for {
		changed := c.r.whenChanged() // before the document is read, so that no change is missed
		d, err := c.r.Document(ctx, from.Role, from.Name)
		if err != nil {
			return nil, withCode(err)
		}
		if d != nil && d.Version != m.Have && d.Version != m.Refused {
			return &agentv1.GetConfigurationResponse{Document: d}, nil
		}
		select {
		case <-changed:
		case <-wait.C:
			return &agentv1.GetConfigurationResponse{}, nil
		case <-api.Stopping(ctx):
			return &agentv1.GetConfigurationResponse{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// noteContact records what an agent reports about itself.
func (r *Registry) noteContact(ctx context.Context, name string, m *agentv1.GetConfigurationRequest) error {
	problem := ""
	if m.Refused != "" {
		problem = sanitizeText(m.Refused, 64) + ": " + sanitizeText(m.Problem, 512)
	}
	return r.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Exec(`UPDATE agent_member SET seen = ?, program = ?, configuration = ?, problem = ?, waiting = ?, dropped = ? WHERE name = ?`,
			r.now().UnixNano(), sanitizeText(m.Release, 64), sanitizeText(m.Have, 64), problem, int64(m.WaitingBytes&maxInt), int64(m.Dropped&maxInt), name)
		return err
	})
}

const maxInt = 1<<63 - 1

func (c agentService) SendItems(ctx context.Context, m *agentv1.SendItemsRequest) (*agentv1.SendItemsResponse, error) {
	from, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	spool, err := checkItems(m)
	if err != nil {
		return nil, withCode(err)
	}
	out, err := c.r.takeItems(ctx, from, spool, m.Items)
	if err != nil {
		c.r.log.Error("take items failed", "agent", from.Name, "err", err)
		return nil, withCode(err)
	}
	for _, refused := range out.Refusals {
		c.r.log.Warn("item refused", "agent", from.Name, "sequence", refused.Sequence, "err", refused.Problem)
	}
	return out, nil
}
