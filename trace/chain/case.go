// Package chain is the investigator's side of STOP: what was asked, what each
// host's administrator redeemed, what of that is proven, and a drawing.
//
// A record is proven when it hashes to the token that its host gave to the
// asker, before anyone could know what it would be used for: the host cannot
// change it later. That the record was true when it was made is not proven;
// root on a host can make it say anything. So every statement is shown with its
// origin, and the chain is trusted only as far as the least trusted host.
package chain

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"dragnet/trace/client"
	"dragnet/trace/protocol"
	"dragnet/trace/token"
)

// CaseVersion is the version of the case file.
const CaseVersion = 1

// Case is everything an investigator has about one question; as a file it is
// JSON and can be shown again without any host.
type Case struct {
	Version int            `json:"v"`
	Asked   time.Time      `json:"asked"`
	Host    netip.AddrPort `json:"host"`
	Request string         `json:"request"` // as on the wire
	Reply   string         `json:"reply,omitempty"`
	Failure string         `json:"failure,omitempty"`
	// Redemptions are the signed redemptions, Refused the reasons why a host
	// gave none, by token.
	Redemptions []token.SignedRedemption `json:"letters,omitempty"`
	// Contradicted are later redemptions that cannot show what an earlier one
	// proved: the record was changed in between.
	Contradicted []token.SignedRedemption `json:"contradicted,omitempty"`
	Refused      map[string]string        `json:"refused,omitempty"`
	// Keys are the hosts' keys that the investigator got from the
	// administrators out of band, in the form of token.FormatKey.
	Keys map[netip.Addr]string `json:"keys,omitempty"`
}

// Start asks a host about a connection. A failed question makes a case as well:
// that a host does not answer is evidence.
func Start(ctx context.Context, host netip.AddrPort, q protocol.Request) Case {
	c := Case{Version: CaseVersion, Asked: time.Now().UTC(), Host: host, Request: q.String()}
	r, err := client.Ask(ctx, netip.Addr{}, host, q)
	if err != nil {
		c.Failure = err.Error()
		return c
	}
	c.Reply = r.String()
	return c
}

// NewSession returns a random session identifier.
func NewSession() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint32(b[:])
}

// Add adds a signed redemption. A later one for the same token replaces the
// older one, since answers of previous hosts arrive later, unless it proves
// less: evidence that matches a token is not lost because the host can no
// longer show it.
func (c *Case) Add(l token.SignedRedemption) error {
	r, err := l.Open()
	if err != nil && !errors.Is(err, token.ErrAltered) {
		return err
	}
	proves := err == nil && r.Record != nil
	for i, old := range c.Redemptions {
		have, wrong := old.Open()
		if have.Token != r.Token {
			continue
		}
		switch hadProof := wrong == nil && have.Record != nil; {
		case hadProof && !proves:
			c.Contradicted = append(c.Contradicted, l)
		case proves && !hadProof, have.Redeemed.Before(r.Redeemed):
			c.Redemptions[i] = l
		}
		return nil
	}
	c.Redemptions = append(c.Redemptions, l)
	delete(c.Refused, r.Token)
	return nil
}

// Load reads a case file.
func Load(path string) (Case, error) {
	var c Case
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read case: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read case %s: %w", path, err)
	}
	if c.Version != CaseVersion {
		return c, fmt.Errorf("case %s has version %d; this program reads version %d", path, c.Version, CaseVersion)
	}
	if _, err := protocol.ParseRequest(c.Request); err != nil {
		return c, fmt.Errorf("case %s: request %q: %w", path, c.Request, err)
	}
	return c, nil
}

// Save writes a case file that only its owner can read.
func (c *Case) Save(path string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write case: %w", err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write case: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write case: %w", err)
	}
	return nil
}
