package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"dragnet/internal/admin"
	"dragnet/internal/admission"
	"dragnet/internal/conf"
	"dragnet/internal/metric"
	"dragnet/internal/run"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Configuration of the interface.
type Configuration struct {
	// Socket is the Unix socket for operators of this machine; its group may
	// use it. Empty means node.sock in the data directory, "none" no socket.
	Socket string `yaml:"socket"`
	// Listen is the TLS address for agents and remote operators, such as
	// 192.0.2.1:9121; empty serves none.
	Listen string `yaml:"listen"`
	// Names are host names and addresses for the node's certificate. Agents need
	// none; curl and browsers do.
	Names []string `yaml:"names"`
	// MaxConnections bounds the connections over TLS at a time.
	MaxConnections int `yaml:"max_connections"`
}

// DefaultConfiguration serves this machine only.
func DefaultConfiguration() Configuration {
	return Configuration{Names: []string{}, MaxConnections: 1024}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.Listen != "" {
		_, _, err := net.SplitHostPort(c.Listen)
		p.Check(err == nil, "listen", "%w; want such as 192.0.2.1:9121", err)
	}
	p.Check(c.MaxConnections >= 1, "max_connections", "is %d; want at least 1", c.MaxConnections)
	return p.Join()
}

// ServerNames returns the names and addresses for the node's certificate: those
// configured, the address it listens on, and this machine's.
func (c *Configuration) ServerNames() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, c.Names...)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}

// NoSocket as Configuration.Socket serves no socket.
const NoSocket = "none"

// Access says which callers may use a service.
type Access int

const (
	// Operators are local users of the Unix socket, and members of role operator.
	Operators Access = iota
	// Everyone may call; the service checks PeerOf itself.
	Everyone
)

// Service is what the functions New...Handler of generated code return, and who
// may use it.
type Service struct {
	Path    string
	Handler http.Handler
	Access  Access
}

// MemberFinder returns the owner of a certificate. An error means that the owner was
// revoked or is unknown.
type MemberFinder func(ctx context.Context, c *x509.Certificate) (name, role string, err error)

// OperatorRole is the role of members with the same access as local operators.
const OperatorRole = "operator"

// MaxRequest bounds a request, in bytes.
const MaxRequest = 8 << 20

// HandlerOptions bound the messages that a service reads.
func HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{connect.WithReadMaxBytes(MaxRequest)}
}

// Dependencies of a server.
type Dependencies struct {
	Log *slog.Logger
	// TLS returns the node's TLS configuration, and is called by Start; needed if
	// Configuration.Listen is set.
	TLS func() *tls.Config
	// Member is needed then, too.
	Member MemberFinder
	// Admin gets the metrics; it may be nil.
	Admin *admin.Server
	// Services are the services to serve.
	Services []Service
}

// Server serves the services.
type Server struct {
	config Configuration
	deps   Dependencies
	server *http.Server
	group  *run.Group
	time   *prometheus.HistogramVec // by service

	refused    atomic.Int64 // calls, since the last that was logged
	logRefusal rate.Sometimes

	// socket and address are set by Start.
	socket, address string
}

// New makes a server; Start opens its sockets.
func New(config Configuration, deps Dependencies) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Listen != "" && (deps.TLS == nil || deps.Member == nil) {
		return nil, errors.New("api: TLS needs an authority and its members")
	}
	stopping := make(chan struct{})
	base := context.WithValue(context.Background(), stoppingKey{}, (<-chan struct{})(stopping))
	s := &Server{config: config, deps: deps, group: run.NewGroup(), logRefusal: rate.Sometimes{Interval: time.Second}}
	s.time = metric.Under(deps.Admin.Metrics(), "dragnet_api_").Histograms("call_seconds", "Time that calls of operators took, by service; streams are left out.", "service")
	mux := http.NewServeMux()
	for _, service := range deps.Services {
		mux.Handle(service.Path, s.admitCallers(service))
	}
	s.server = &http.Server{
		Handler:           http.MaxBytesHandler(mux, MaxRequest+1<<20), // room for the encoding
		ReadHeaderTimeout: 10 * time.Second,                            // of the TLS handshake too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
		ConnContext:       withSocketPeer,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	s.server.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) }))
	return s, nil
}

// Start serves until Stop.
func (s *Server) Start(context.Context) error {
	if s.config.Socket != "" && s.config.Socket != NoSocket {
		l, err := listenUnix(s.config.Socket)
		if err != nil {
			return fmt.Errorf("api: socket: %w", err)
		}
		s.socket = s.config.Socket
		s.serveListener(l)
	}
	if s.config.Listen != "" {
		l, err := net.Listen("tcp", s.config.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("api: listen: %w", err), s.server.Close())
		}
		s.address = l.Addr().String()
		s.serveListener(tls.NewListener(admission.Listen(l, s.config.MaxConnections), s.deps.TLS()))
	}
	return nil
}

func (s *Server) serveListener(l net.Listener) {
	s.group.Go(func(context.Context) error {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
		}
		return nil
	})
}

// Address is the address served over TLS, such as 127.0.0.1:9121.
func (s *Server) Address() string { return s.address }

// Socket is the path of the Unix socket.
func (s *Server) Socket() string { return s.socket }

// Stop stops the server; requests being answered have until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = s.server.Close()
	}
	return errors.Join(err, s.group.Stop(ctx))
}

// Failed receives the error that ended serving.
func (s *Server) Failed() <-chan error { return s.group.Failed() }

// listenUnix replaces a socket file that a crash left behind, but not one that
// another program serves.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fmt.Errorf("%s is served by another program; stop it first", path), c.Close())
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(filepath.Dir(path), 0o750)
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		err = fmt.Errorf("%s exists and is not a socket; move it away or choose another api.socket", path)
	case err == nil:
		err = os.Remove(path)
	}
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
