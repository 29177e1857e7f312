// Package kafka reads flows from topics of a Kafka cluster, and forwards flows to
// one: as many nodes and collectors as are needed share the work through it.
//
// What was read of a topic is stored together with a number, and the state of
// the reader under that number is kept in a file: where each partition goes on,
// and the conversations that are not over. So a message counts once in the
// store, wherever the node is interrupted. Offsets are committed to the cluster
// after that, for those who watch how far behind a reader is.
package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"dragnet/internal/conf"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Configuration of a Consumer and of a Forwarder.
type Configuration struct {
	// Brokers are some of the cluster's, such as kafka.example.org:9092.
	Brokers []string `yaml:"brokers"`
	// TLS encrypts the connections.
	TLS TLS `yaml:"tls"`
	// User is the name for SASL, which is not used without one.
	User string `yaml:"user"`
	// Password is that of User.
	Password conf.Secret `yaml:"password"`
	// Mechanism is scram-sha-512, scram-sha-256 or plain.
	Mechanism string `yaml:"mechanism"`
	// Group is the name under which offsets are committed.
	Group string `yaml:"group"`
	// Topics are those read.
	Topics []Topic `yaml:"topics"`
	// NetFlow bounds what is kept of exporters whose datagrams come through a
	// topic.
	NetFlow netflow.Configuration `yaml:"netflow"`
	// SFlow bounds what is kept of exporters of sFlow.
	SFlow sflow.Configuration `yaml:"sflow"`
	// Join says how the two directions of a conversation become one flow.
	Join biflow.Configuration `yaml:"join"`
	// Forward names a topic to which each flow that is stored is written.
	Forward Forward `yaml:"forward"`
}

// TLS says how brokers are recognised, and this node by them.
type TLS struct {
	// Enabled is whether connections are encrypted.
	Enabled bool `yaml:"enabled"`
	// CA is a file of the certificates that vouch for brokers; empty are those
	// that the system trusts.
	CA string `yaml:"ca"`
	// Certificate is a file, for brokers that want one.
	Certificate string `yaml:"certificate"`
	// Key is the file of the certificate's private key.
	Key string `yaml:"key"`
}

// Topic is one that is read.
type Topic struct {
	// Name of the topic.
	Name string `yaml:"name"`
	// Format of its messages: dragnet (what forward writes), goflow2, or
	// akvorado (the datagrams that the inlet of version 2 passes on).
	Format string `yaml:"format"`
	// Partitions are those read; empty is all. Two nodes that share a store
	// read different ones.
	Partitions []int32 `yaml:"partitions"`
}

// Forward is the topic to which stored flows are written.
type Forward struct {
	// Topic must exist. Empty forwards nothing.
	Topic string `yaml:"topic"`
	// MaxPending bounds the flows that wait while the cluster cannot be reached;
	// those beyond are counted and not forwarded. Each takes about 300 bytes.
	MaxPending int `yaml:"max_pending"`
}

// The formats of messages.
const (
	formatDragnet  = "dragnet"
	formatGoflow2  = "goflow2"
	formatAkvorado = "akvorado"
)

// DefaultConfiguration reads and writes no topic.
func DefaultConfiguration() Configuration {
	return Configuration{
		Brokers: []string{}, Mechanism: "scram-sha-512", Group: "dragnet", Topics: []Topic{},
		NetFlow: netflow.DefaultConfiguration(), SFlow: sflow.DefaultConfiguration(), Join: biflow.DefaultConfiguration(), Forward: Forward{MaxPending: 1 << 18},
	}
}

// Reads reports whether a topic is read.
func (c *Configuration) Reads() bool { return len(c.Topics) > 0 }

// Forwards reports whether flows are forwarded.
func (c *Configuration) Forwards() bool { return c.Forward.Topic != "" }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(len(c.Brokers) > 0 || !c.Reads() && !c.Forwards(), "brokers", "is empty; want such as [kafka.example.org:9092]")
	for i, b := range c.Brokers {
		_, _, err := net.SplitHostPort(b)
		p.Check(err == nil, fmt.Sprintf("brokers[%d]", i), "%w; want such as kafka.example.org:9092", err)
	}
	p.Check(slices.Contains([]string{"scram-sha-512", "scram-sha-256", "plain"}, c.Mechanism), "mechanism", "is %q; want scram-sha-512, scram-sha-256 or plain", c.Mechanism)
	p.Check(c.User == "" || c.Mechanism != "plain" || c.TLS.Enabled, "mechanism", "plain shows the password to anybody who listens; set tls.enabled, or use scram-sha-512")
	p.Check(c.User != "" || c.Password == "", "user", "is empty, though there is a password")
	p.Check((c.TLS.Certificate == "") == (c.TLS.Key == ""), "tls", "a certificate needs its key, and a key its certificate")
	p.Check(c.TLS.Enabled || c.TLS.CA+c.TLS.Certificate == "", "tls.enabled", "is false, though certificates are named")
	p.Check(c.Group != "", "group", "is empty; want a name such as dragnet")
	for i, t := range c.Topics {
		key := fmt.Sprintf("topics[%d]", i)
		p.Check(t.Name != "", key+".name", "is empty")
		p.Check(slices.Contains([]string{formatDragnet, formatGoflow2, formatAkvorado}, t.Format), key+".format", "is %q; want dragnet, goflow2 or akvorado", t.Format)
		p.Check(!slices.ContainsFunc(c.Topics[:i], func(o Topic) bool { return o.Name == t.Name }), key+".name", "%s is named twice", t.Name)
		p.Check(t.Name != c.Forward.Topic, key+".name", "%s is what flows are forwarded to: they would go round for ever", t.Name)
		for _, n := range t.Partitions {
			p.Check(n >= 0, key+".partitions", "%d is below 0", n)
		}
	}
	p.Section("netflow", c.NetFlow.Validate())
	p.Section("sflow", c.SFlow.Validate())
	p.Section("join", c.Join.Validate())
	p.Check(c.Forward.MaxPending >= 1, "forward.max_pending", "is %d; want at least 1", c.Forward.MaxPending)
	return p.Join()
}

// clientOptions returns the options of every client.
func (c *Configuration) clientOptions() ([]kgo.Opt, error) {
	all := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID("dragnet"), kgo.DialTimeout(5 * time.Second)}
	if c.User != "" {
		switch c.Mechanism {
		case "plain":
			all = append(all, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password.Reveal()}.AsMechanism()))
		case "scram-sha-256":
			all = append(all, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password.Reveal()}.AsSha256Mechanism()))
		default:
			all = append(all, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password.Reveal()}.AsSha512Mechanism()))
		}
	}
	if !c.TLS.Enabled {
		return all, nil
	}
	t, err := c.TLS.loadConfig()
	if err != nil {
		return nil, err
	}
	return append(all, kgo.DialTLSConfig(t)), nil
}

func (t *TLS) loadConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("kafka.tls.ca: %s holds no certificate", t.CA)
		}
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// shortenError returns an error of the client without the addresses of connections, which
// change each time.
func shortenError(err error) string {
	var broken *net.OpError
	if errors.As(err, &broken) {
		return broken.Op + ": " + broken.Err.Error()
	}
	return strings.TrimSpace(err.Error())
}
