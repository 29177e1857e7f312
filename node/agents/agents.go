package agents

import (
	"context"
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

	"dragnet/internal/state"
	"dragnet/node/api"
	"dragnet/wire/enrol"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Roles are what an agent can be, and what an operator is.
var roles = []string{"guard", "ident", "ripcord", "sensor", "trap", api.OperatorRole}

// Registry knows the agents. It is safe for concurrent use.
type Registry struct {
	db        *state.DB
	authority *enrol.Authority
	log       *slog.Logger
	now       func() time.Time
	handlers  map[string]Handler
	// life is how long a certificate lasts.
	life    time.Duration
	sending chan struct{} // bounds the requests that carry items

	mu      sync.Mutex
	changed chan struct{} // closed when a document may have changed; guarded by mu
}

// certificateLife is how long an agent can be away without being enrolled anew.
// Agents renew after two thirds of it.
const certificateLife = 90 * 24 * time.Hour

// sendersAtOnce bounds the requests with items that are worked on at a time;
// others wait.
const sendersAtOnce = 8

// Open brings the tables up to date and returns the registry in db. The
// authority gives its members their certificates. Handlers are by the kind of
// item; log may be told of what agents do.
func Open(ctx context.Context, db *state.DB, authority *enrol.Authority, handlers map[string]Handler, log *slog.Logger) (*Registry, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "agent", sub); err != nil {
		return nil, err
	}
	return &Registry{
		db: db, authority: authority, log: log, now: time.Now, handlers: handlers, life: certificateLife,
		sending: make(chan struct{}, sendersAtOnce), changed: make(chan struct{}),
	}, nil
}

// Authority gives the members their certificates.
func (r *Registry) Authority() *enrol.Authority { return r.authority }

// names of agents stand in certificates, logs and command lines.
var memberName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func checkRole(role string) error {
	if !slices.Contains(roles, role) {
		return fmt.Errorf("%w: %q is not a role; want one of %s", ErrWrong, role, strings.Join(roles, ", "))
	}
	return nil
}

// Errors that a caller may tell apart.
var (
	// ErrWrong is a mistake in what was asked for.
	ErrWrong = errors.New("wrong request")
	// ErrUnknown says that there is no such agent.
	ErrUnknown = errors.New("no such agent")
	// ErrToken says that a token cannot be redeemed.
	ErrToken = errors.New("this token was used, has ended, or is not of this node; make another with 'dragnet agent token'")
	// ErrRevoked says that a certificate is not, or no longer, good.
	ErrRevoked = errors.New("this certificate was revoked or replaced; enrol again with a new token")
)
