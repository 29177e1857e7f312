package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"

	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/agent/v1/agentv1connect"
	"dragnet/wire/enrol"
)

// maxResponse bounds what is read of an answer, in bytes.
const maxResponse = 8 << 20

// dial gives a client of the node at address.
func dial(address string, c *tls.Config) (agentv1connect.AgentServiceClient, *http.Transport) {
	t := &http.Transport{
		TLSClientConfig:     c,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     2 * time.Minute,
		// Finds out that the other side is gone without a word.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: t}, address, connect.WithReadMaxBytes(maxResponse)), t
}

// CheckNode reports what is wrong with the address of a node.
func CheckNode(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.User != nil {
		return fmt.Errorf("%q is not the address of a node: want such as https://node.example.org:9121", address)
	}
	return nil
}

// Applicant is who enrols.
type Applicant struct {
	// Role is the one that it is to play; a token for another is not redeemed.
	// Empty takes any.
	Role string
	// Host is this machine's name and Release the program's, for people to read.
	Host, Release string
	// Replace takes the place of an enrolment that the folder holds, as after
	// it was revoked. What waits in the spool is kept.
	Replace bool
}

// Enrol redeems a token at the node and keeps the certificate in folder dir.
// After an error it may be tried again with the same token.
func Enrol(ctx context.Context, dir, node string, token enrol.Token, a Applicant) (enrol.Member, error) {
	if err := CheckNode(node); err != nil {
		return enrol.Member{}, err
	}
	if _, err := enrol.Open(dir); !a.Replace && !errors.Is(err, enrol.ErrNotEnrolled) {
		if err == nil {
			err = fmt.Errorf("%s holds an enrolment already; name another folder, or replace it with --replace", dir)
		}
		return enrol.Member{}, err
	}
	request, err := enrol.Request(dir)
	if err != nil {
		return enrol.Member{}, err
	}
	client, transport := dial(node, token.ClientTLS())
	defer transport.CloseIdleConnections()
	got, err := client.EnrolAgent(ctx, &agentv1.EnrolAgentRequest{Secret: token.Secret[:], Request: request, Host: a.Host, Release: a.Release, Role: a.Role})
	if err != nil {
		return enrol.Member{}, fmt.Errorf("enrol at %s: %w", node, err)
	}
	m := enrol.Member{Node: node, Name: got.Name, Role: got.Role}
	return m, enrol.Save(dir, m, got.Certificate, got.Authority)
}
