package reporting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/tlog"

	"dragnet/dossier"
	"dragnet/wire/identity"
	reportingv1 "dragnet/wire/reporting/v1"
	"dragnet/wire/reporting/v1/reportingv1connect"
	"dragnet/wire/roster"
)

// Client talks to one clearinghouse. It is safe for concurrent use.
type Client struct {
	rpc  reportingv1connect.ClearinghouseServiceClient
	http *http.Transport
	key  *identity.Key
	to   identity.ID
}

// Dial prepares a client of the clearinghouse at an https URL that answers with
// one of the keys; reports are addressed to the first. Own is the member's key,
// nil for a client that only reads.
func Dial(address string, servers []identity.Public, own *identity.Key) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.200q: want an address such as https://203.0.113.1:8443", address)
	}
	if len(servers) == 0 {
		return nil, errors.New("without the clearinghouse's key anybody could answer in its place")
	}
	config, err := identity.ClientTLS(own, servers[0])
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		for _, k := range servers {
			if p, ok := identity.PeerOf(s); ok && p == k && !k.IsZero() {
				return nil
			}
		}
		return fmt.Errorf("%w (%s)", identity.ErrPeer, servers[0])
	}
	t := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 20 * time.Second,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
	}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Client{
		rpc:  reportingv1connect.NewClearinghouseServiceClient(client, address, connect.WithReadMaxBytes(roster.MaxBundle+MaxRequest), connect.WithAcceptCompression("gzip", nil, nil)),
		http: t, key: own, to: servers[0].ID(),
	}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

var errNoKey = errors.New("only a member can do this: a private key is needed")

// SubmitReports reports, in batches that fit a request. It may be repeated after any
// error: what is known counts once.
func (c *Client) SubmitReports(ctx context.Context, reports ...*dossier.Report) (out []*reportingv1.Outcome, err error) {
	if c.key == nil {
		return nil, errNoKey
	}
	var batch [][]byte
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		r, err := c.rpc.SubmitReports(ctx, &reportingv1.SubmitReportsRequest{Envelopes: batch})
		if err == nil && len(r.Outcomes) != len(batch) {
			err = fmt.Errorf("clearinghouse: %d outcomes for %d reports", len(r.Outcomes), len(batch))
		}
		if err != nil {
			return err
		}
		out = append(out, r.Outcomes...)
		batch, size = nil, 0
		return nil
	}
	for _, report := range reports {
		sealed, _, err := SealReport(c.key, c.to, time.Now(), report)
		if err != nil {
			return out, err
		}
		if len(batch) == MaxSubmitted || size+len(sealed) > MaxRequest/2 {
			if err := flush(); err != nil {
				return out, err
			}
		}
		batch, size = append(batch, sealed), size+len(sealed)
	}
	return out, flush()
}

// WithdrawReport takes a report of one's own back.
func (c *Client) WithdrawReport(ctx context.Context, id dossier.ReportID, why string) error {
	if c.key == nil {
		return errNoKey
	}
	sealed, err := SealWithdrawal(c.key, c.to, time.Now(), &dossier.Withdrawal{Report: id, Why: why})
	if err != nil {
		return err
	}
	_, err = c.rpc.WithdrawReport(ctx, &reportingv1.WithdrawReportRequest{Envelope: sealed})
	return err
}

// Join asks for membership under our key by an invitation, and says whether the operator
// has admitted us.
func (c *Client) Join(ctx context.Context, secret [16]byte) (member string, admitted bool, err error) {
	if c.key == nil {
		return "", false, errNoKey
	}
	r, err := c.rpc.JoinCommunity(ctx, &reportingv1.JoinCommunityRequest{Invitation: secret[:]})
	if err != nil {
		return "", false, err
	}
	return r.Member, r.State == reportingv1.JoinState_JOIN_STATE_ADMITTED, nil
}

// CosignHead shows a head of our record with the proof that it continues the one of
// from entries. Cosigned is empty if last, what was shown last, is not from; with an
// empty head it only asks for that.
func (c *Client) CosignHead(ctx context.Context, head string, from int64, proof tlog.TreeProof) (cosigned string, last int64, lastHead string, err error) {
	if c.key == nil {
		return "", 0, "", errNoKey
	}
	request := &reportingv1.CosignHeadRequest{Head: head, From: from}
	for i := range proof {
		request.Proof = append(request.Proof, proof[i][:])
	}
	r, err := c.rpc.CosignHead(ctx, request)
	if err != nil {
		return "", 0, "", err
	}
	return r.Head, r.Last, r.LastHead, nil
}

// SubmitObjection files an objection and gives its name.
func (c *Client) SubmitObjection(ctx context.Context, prefix netip.Prefix, reason, contact string) (string, error) {
	r, err := c.rpc.SubmitObjection(ctx, &reportingv1.SubmitObjectionRequest{Prefix: prefix.String(), Reason: reason, Contact: contact})
	return r.GetObjection(), err
}

// FetchRoster fetches the bundle of the roster, which is for a Keeper to check.
func (c *Client) FetchRoster(ctx context.Context) ([]byte, error) {
	r, err := c.rpc.GetRoster(ctx, &reportingv1.GetRosterRequest{})
	return r.GetBundle(), err
}

// Epoch fetches the name from which the salts of a UTC day (2026-03-01) are
// derived.
func (c *Client) Epoch(ctx context.Context, day string) (string, error) {
	r, err := c.rpc.ListSalts(ctx, &reportingv1.ListSaltsRequest{Days: 100})
	for _, e := range r.GetEpochs() {
		if e.Day == day {
			return e.Name, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("the clearinghouse has published no salts of %s", day)
	}
	return "", err
}

// Epochs fetches those names for the last days, by day.
func (c *Client) Epochs(ctx context.Context, days int) (map[string]string, error) {
	r, err := c.rpc.ListSalts(ctx, &reportingv1.ListSaltsRequest{Days: int32(days)})
	out := map[string]string{}
	for _, e := range r.GetEpochs() {
		out[e.Day] = e.Name
	}
	return out, err
}

// ListEntries fetches a page of entries. An empty cursor is the first page, an
// empty next the end.
func (c *Client) ListEntries(ctx context.Context, s *reportingv1.Selection, cursor string, limit int) (page []dossier.Entry, next string, err error) {
	r, err := c.rpc.ListEntries(ctx, &reportingv1.ListEntriesRequest{Selection: s, Cursor: cursor, PageSize: uint32(max(0, limit))})
	for _, m := range r.GetEntries() {
		e, err := EntryFromWire(m)
		if err != nil {
			return nil, "", err
		}
		page = append(page, e)
	}
	return page, r.GetNextCursor(), err
}

// ListGroups fetches a page of groups.
func (c *Client) ListGroups(ctx context.Context, s *reportingv1.Selection, cursor string, limit int) (page []dossier.Group, next string, err error) {
	r, err := c.rpc.ListGroups(ctx, &reportingv1.ListGroupsRequest{Selection: s, Cursor: cursor, PageSize: uint32(max(0, limit))})
	for _, m := range r.GetGroups() {
		g, err := GroupFromWire(m)
		if err != nil {
			return nil, "", err
		}
		page = append(page, g)
	}
	return page, r.GetNextCursor(), err
}

// ListChanges fetches what was published after a sequence number; with a valid host
// of that host alone.
func (c *Client) ListChanges(ctx context.Context, host netip.Addr, after int64, limit int) (page []dossier.Change, err error) {
	r, err := c.rpc.ListChanges(ctx, &reportingv1.ListChangesRequest{Host: hostText(host), After: after, PageSize: uint32(max(0, limit))})
	for _, m := range r.GetChanges() {
		change, err := ChangeFromWire(m)
		if err != nil {
			return nil, err
		}
		page = append(page, change)
	}
	return page, err
}

// hostText is the host's text form, empty for no host.
func hostText(host netip.Addr) string {
	if !host.IsValid() {
		return ""
	}
	return host.String()
}
