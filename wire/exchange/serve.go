package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"connectrpc.com/connect"

	"dragnet/internal/admission"
	"dragnet/wire/identity"
)

type peerKey struct{}

// Peer is the key that the caller of a method proved to hold; ok is false for a
// caller without a key.
func Peer(ctx context.Context) (p identity.Public, ok bool) {
	p, ok = ctx.Value(peerKey{}).(identity.Public)
	return p, ok
}

// PeerAddress is the address that the caller of a method connects from, IPv4 as such and
// without a zone; ok is false if it is not known.
func PeerAddress(ctx context.Context) (a netip.Addr, ok bool) {
	info, ok := connect.CallInfoForHandlerContext(ctx)
	if !ok {
		return a, false
	}
	at, err := netip.ParseAddrPort(info.Peer().Addr)
	return at.Addr().Unmap().WithZone(""), err == nil
}

// WithPeer lets methods see who calls: Connect itself does not tell.
func WithPeer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			if p, ok := identity.PeerOf(*r.TLS); ok {
				r = r.WithContext(context.WithValue(r.Context(), peerKey{}, p))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Only passes callers whose key allowed accepts; the others are turned away
// before anything of what they send is read.
func Only(allowed func(identity.Public) bool, next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, ok := Peer(r.Context()); !ok || !allowed(p) {
			err := connect.NewError(connect.CodePermissionDenied, errors.New("your key is not known here"))
			if refuse.IsSupported(r) {
				refuse.Write(w, r, err)
			} else {
				http.Error(w, err.Error(), http.StatusForbidden)
			}
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Options are what every handler is made with: no message larger than limit,
// and no compression, which would let a sender make us unpack what it never
// sent.
func Options(limit int) []connect.HandlerOption {
	return []connect.HandlerOption{connect.WithReadMaxBytes(limit), connect.WithCompression("gzip", nil, nil)}
}

// Server serves handlers over TLS 1.3 under a key.
type Server struct {
	http     *http.Server
	listener net.Listener
}

// maxConnections bounds those that are open, about 50 kB each.
const maxConnections = 4096

// Listen binds an address; Serve serves it.
func Listen(address string, k *identity.Key, handler http.Handler, log *slog.Logger) (*Server, error) {
	config, err := identity.ServerTLS(k)
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &Server{listener: admission.Listen(inner, maxConnections), http: &http.Server{
		Handler: boundAnswers(WithPeer(handler)), TLSConfig: config,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ConnContext: admission.ConnContext,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}, nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers until Shutdown or Close.
func (s *Server) Serve() error {
	if err := s.http.ServeTLS(s.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends the server once what it is answering is answered, or cuts it
// when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
