// Package endpoint is an organisation's witness as a service: it answers the
// questions of the roster's detectives from the node's log, as far as its
// policy lets it. Questions come directly over TLS, or from relays that the
// witness polls.
//
// A question that was started and not finished, because the witness was killed
// or the connection broke, may be asked again in the same envelope; one that was
// answered may not.
package endpoint

import (
	"fmt"
	"time"

	"dragnet/ask/witness"
	"dragnet/ask/witness/policy"
	"dragnet/internal/conf"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

// Configuration of a witness service. Without an address and without relays it
// answers no questions.
type Configuration struct {
	// Listen is the address where detectives ask, such as 203.0.113.1:8443;
	// empty listens nowhere.
	Listen string `yaml:"listen"`
	// Relays are the relays that are polled for questions, for a witness to which
	// detectives cannot connect.
	Relays []RelayConfiguration `yaml:"relays"`
	// Key is the file of this organisation's private key, which is created if
	// there is none; empty is witness.key in the data directory.
	Key string `yaml:"key"`
	// Roster is the list of detectives.
	Roster RosterConfiguration `yaml:"roster"`
	// Clearinghouse serves newer rosters and the epochs whose salts are used; with
	// it, only epochs that it published are answered.
	Clearinghouse Clearinghouse `yaml:"clearinghouse"`
	// Concurrent is how many questions are answered at a time; others wait.
	Concurrent int `yaml:"concurrent"`
	// Timeout bounds the work on one question.
	Timeout time.Duration `yaml:"timeout"`
	// Limits bound what one question may cost.
	Limits witness.Configuration `yaml:"limits"`
	// Policy says what is answered to whom.
	Policy policy.Rules `yaml:"policy"`
}

// RelayConfiguration is a relay and the key that it must hold.
type RelayConfiguration struct {
	// URL is for example https://203.0.113.9:8444.
	URL string `yaml:"url"`
	// Key is the public key that it must hold.
	Key identity.Public `yaml:"key"`
}

// Clearinghouse is the source of a community's roster and epochs.
type Clearinghouse struct {
	// URL is for example https://203.0.113.9:8443; empty asks none.
	URL string `yaml:"url"`
	// Key is the public key that it answers with. It is not the roster's signer, whose
	// key should not be on that machine.
	Key string `yaml:"key"`
}

// RosterConfiguration says where the signed list of members is, and whose signature counts.
type RosterConfiguration struct {
	// File is read again when it changes, so that newer versions can be put
	// there; empty if a clearinghouse is asked.
	File string `yaml:"file"`
	// Signer is the clearinghouse's public key, such as ed25519:3p7bfXt9wbTT...
	Signer string `yaml:"signer"`
}

// DefaultConfiguration answers no questions.
func DefaultConfiguration() Configuration {
	return Configuration{Relays: []RelayConfiguration{}, Concurrent: 2, Timeout: time.Minute, Limits: witness.DefaultConfiguration(), Policy: policy.Default()}
}

// Off reports whether the witness takes no questions.
func (c *Configuration) Off() bool { return c.Listen == "" && len(c.Relays) == 0 }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for i, r := range c.Relays {
		e := exchange.Endpoint{URL: r.URL, Key: r.Key}
		p.Error(fmt.Sprintf("relays[%d]", i), e.Validate())
	}
	p.Section("limits", c.Limits.Validate())
	p.Section("policy", c.Policy.Validate())
	p.Check(c.Concurrent >= 1 && c.Concurrent <= 1000, "concurrent", "is %d; want 1 to 1000", c.Concurrent)
	p.Check(c.Timeout >= time.Second && c.Timeout <= time.Hour, "timeout", "is %v; want 1s to 1h", c.Timeout)
	if c.Off() {
		return p.Join()
	}
	p.Check(c.Roster.File != "" || c.Clearinghouse.URL != "", "roster.file", "is empty; name one, or a clearinghouse: without a roster no question is answered")
	_, err := identity.ParsePublic(c.Roster.Signer)
	p.Error("roster.signer", err)
	if c.Clearinghouse.URL != "" {
		_, err := identity.ParsePublic(c.Clearinghouse.Key)
		p.Error("clearinghouse.key", err)
	}
	return p.Join()
}
