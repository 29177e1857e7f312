package agents

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"dragnet/internal/admission"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/node/api"
	"dragnet/wire/enrol"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Roles are those of agents and of operators.
var roles = []string{"guard", "ident", "ripcord", "sensor", "trap", api.OperatorRole}

// Registry keeps the agents and operators of a node. It is safe for concurrent use.
type Registry struct {
	db       *state.DB
	log      *slog.Logger
	now      func() time.Time
	handlers map[string]Handler
	group    *run.Group

	directory string // of the authority
	authority *enrol.Authority
	// life is how long a certificate lasts.
	life    time.Duration
	sending *admission.Fair // of requests that carry items

	mu      sync.Mutex
	changed chan struct{} // closed when a document may have changed; guarded by mu
}

// certificateLife is how long an agent can be away before it must enrol again.
// Agents renew their certificates after two thirds of it.
const certificateLife = 90 * 24 * time.Hour

// sendersAtOnce bounds the requests with items that are handled at a time; others
// wait.
const sendersAtOnce = 8

// Dependencies of a registry.
type Dependencies struct {
	DB *state.DB
	// Authority is the directory of the authority that certifies members; Start
	// creates it if it does not exist.
	Authority string
	Log       *slog.Logger
}

// New returns the registry in a database; Start starts it.
func New(d Dependencies) *Registry {
	return &Registry{
		db: d.DB, directory: d.Authority, log: d.Log, now: time.Now, handlers: map[string]Handler{}, group: run.NewGroup(), life: certificateLife,
		sending: admission.NewFair(sendersAtOnce), changed: make(chan struct{}),
	}
}

// Handle registers the handler for items of a kind. Call it before the first
// agent is served.
func (r *Registry) Handle(kind string, h Handler) { r.handlers[kind] = h }

// Start opens the authority, brings the tables up to date, and watches them for
// documents that other programs set. The database must be open.
func (r *Registry) Start(ctx context.Context) (err error) {
	if r.authority, err = enrol.OpenAuthority(r.directory); err != nil {
		return err
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := r.db.Migrate(ctx, "agent", steps); err != nil {
		return err
	}
	r.group.GoWithoutError(r.watchDocuments)
	return nil
}

// Stop ends watching.
func (r *Registry) Stop(ctx context.Context) error { return r.group.Stop(ctx) }

// Authority certifies the members, after Start.
func (r *Registry) Authority() *enrol.Authority { return r.authority }

// memberName matches names, which appear in certificates, logs and command lines.
var memberName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func checkRole(role string) error {
	if !slices.Contains(roles, role) {
		return fmt.Errorf("%w: %q is not a role; want one of %s", ErrWrong, role, strings.Join(roles, ", "))
	}
	return nil
}

// Errors that callers may test for.
var (
	// ErrWrong is an invalid request.
	ErrWrong = errors.New("wrong request")
	// ErrUnknown means that there is no such agent.
	ErrUnknown = errors.New("no such agent")
	// ErrToken means that a token cannot be redeemed.
	ErrToken = errors.New("this token is used, expired, or of another node; make a new one with 'dragnet agent token'")
	// ErrRevoked means that a certificate is not, or no longer, valid.
	ErrRevoked = errors.New("this certificate was revoked or replaced; enrol again with a new token")
)

// ServerTLS returns the node's TLS configuration for names; call it after Start.
func (r *Registry) ServerTLS(names []string) func() *tls.Config {
	return func() *tls.Config { return r.authority.ServerTLS(names) }
}
