package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"

	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// Endpoint is a server and the key that it must hold.
type Endpoint struct {
	URL string
	Key identity.Public
}

// Validate reports an endpoint that cannot be reached safely.
func (e *Endpoint) Validate() error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%.200q: want an address such as https://203.0.113.1:8443", e.URL)
	}
	if e.Key.IsZero() {
		return fmt.Errorf("%s has no key: without it anybody could answer there", e.URL)
	}
	return nil
}

// transport reaches an endpoint and no other; close ends its connections.
func (e *Endpoint) transport(k *identity.Key) (client *http.Client, closeIdle func(), err error) {
	if err := e.Validate(); err != nil {
		return nil, nil, err
	}
	config, err := identity.ClientTLS(k, e.Key)
	if err != nil {
		return nil, nil, err
	}
	t := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 20 * time.Second,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
	}
	redirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: t, CheckRedirect: redirects}, t.CloseIdleConnections, nil
}

// clientOptions are those of Options, for the other side.
func clientOptions(limit int) []connect.ClientOption {
	return []connect.ClientOption{connect.WithReadMaxBytes(limit), connect.WithAcceptCompression("gzip", nil, nil)}
}

// Ask brings a question's envelope to a witness and takes what it returns, at
// most limit bytes. A witness that streams on is cut there, or when ctx ends.
func Ask(ctx context.Context, k *identity.Key, e Endpoint, question []byte, limit int) ([]byte, error) {
	client, done, err := e.transport(k)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	witness := exchangev1connect.NewWitnessServiceClient(client, e.URL, clientOptions(2*chunk)...)
	stream, err := witness.AskQuestion(ctx, &exchangev1.AskQuestionRequest{Envelope: question})
	if err != nil {
		return nil, err
	}
	// Close reads on to the end of the stream, which may never come.
	defer func() { cancel(); stream.Close() }()
	g := chunkReader{limit: limit}
	for stream.Receive() {
		if err := g.add(stream.Msg().Chunk); err != nil {
			return nil, err
		}
	}
	err = stream.Err()
	if len(g.data) > 0 && ctx.Err() != nil {
		err = fmt.Errorf("%w (%d bytes until then)", ErrUnfinished, len(g.data))
	}
	return g.data, err
}

// Denied reports whether an error says that the other side does not know our
// key.
func Denied(err error) bool { return connect.CodeOf(err) == connect.CodePermissionDenied }

// Unreachable reports whether an error says that there was no response at all.
func Unreachable(err error) bool {
	return errors.Is(err, identity.ErrPeer) || connect.CodeOf(err) == connect.CodeUnavailable
}
