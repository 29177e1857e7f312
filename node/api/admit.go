package api

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"dragnet/internal/admission"

	"connectrpc.com/connect"
)

var errorWriter = connect.NewErrorWriter()

// admitCallers identifies callers, and passes on the calls that service allows.
func (s *Server) admitCallers(service Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setBodyDeadline(w, r)
		peer := PeerOf(r.Context())
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			peer.Certificate = r.TLS.PeerCertificates[0]
			var err error
			if peer.Name, peer.Role, err = s.deps.Member(r.Context(), peer.Certificate); err != nil {
				s.refuseCall(w, r, peer, err)
				return
			}
			admission.MarkKnown(r.Context(), peer.Name)
		}
		if service.Access == Operators {
			if !peer.Local && peer.Role != OperatorRole {
				s.refuseCall(w, r, peer, errors.New("only operators may call this: use the node's Unix socket, or a certificate of role operator"))
				return
			}
			s.deps.Log.Debug("call admitted", "call", r.URL.Path, "by", peer.String())
			if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/connect+") { // a stream
				defer func(from time.Time) {
					s.time.WithLabelValues(strings.Trim(service.Path, "/")).Observe(time.Since(from).Seconds())
				}(time.Now())
			}
		}
		service.Handler.ServeHTTP(w, r.WithContext(WithPeer(r.Context(), peer)))
	})
}

// bodyWithin is how long a request may take to arrive.
const bodyWithin = time.Minute

// setBodyDeadline sets a deadline for reading the body of a request. It is cleared
// at the end of the body, since the answer may take long.
func setBodyDeadline(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(bodyWithin)) == nil {
		r.Body = &deadlineBody{r.Body, control}
	}
}

type deadlineBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *deadlineBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{}) // setting it worked, so clearing does
	}
	return n, err
}

func (s *Server) refuseCall(w http.ResponseWriter, r *http.Request, peer Peer, why error) {
	s.refused.Add(1)
	// Strangers can call as often as they like.
	s.logRefusal.Do(func() {
		s.deps.Log.Warn("call refused", "call", r.URL.Path, "by", peer.String(), "err", why, "since_last", s.refused.Swap(0))
	})
	code := connect.CodePermissionDenied
	if !peer.Local && peer.Name == "" {
		code = connect.CodeUnauthenticated
	}
	if known, ok := errors.AsType[*connect.Error](why); ok {
		why, code = errors.New(known.Message()), known.Code()
	}
	_ = errorWriter.Write(w, r, connect.NewError(code, why)) // the peer went away
}
