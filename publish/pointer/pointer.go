// Package pointer says where the newest publication is found when neither the
// clearinghouse nor a mirror known by name answers: a mutable item in a
// distributed hash table (BEP 5, BEP 44), signed by the clearinghouse, with the
// head of the publication's manifest and the addresses of mirrors. It holds no
// entry, and a reader believes nothing but the signature: nodes of the table are
// strangers.
package pointer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"

	"dragnet/internal/conf"
	"dragnet/publish/mirror"
)

// Configuration of the item.
type Configuration struct {
	// Bootstrap are nodes by which the table is entered, such as
	// dht.example.org:6881; none publishes no item.
	Bootstrap []string `yaml:"bootstrap"`
	// Listen is the UDP address from which nodes are asked.
	Listen string `yaml:"listen"`
	// Mirrors are the URLs at which readers find the publication, such as
	// https://feed.example.org/mirror/.
	Mirrors []string `yaml:"mirrors"`
}

// DefaultConfiguration publishes no item.
func DefaultConfiguration() Configuration {
	return Configuration{Bootstrap: []string{}, Listen: ":0", Mirrors: []string{}}
}

// Off reports whether no item is published.
func (c *Configuration) Off() bool { return len(c.Bootstrap) == 0 }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.Off() {
		return nil
	}
	for i, node := range c.Bootstrap {
		_, port, err := net.SplitHostPort(node)
		p.Check(err == nil && port != "0", fmt.Sprintf("bootstrap[%d]", i), "%q; want a host and a port, such as dht.example.org:6881", node)
	}
	_, _, err := net.SplitHostPort(c.Listen)
	p.Check(err == nil, "listen", "%q; want an address and a port, such as :0", c.Listen)
	p.Check(len(c.Mirrors) > 0, "mirrors", "is empty; say where readers find the publication")
	for i, m := range c.Mirrors {
		p.Check(isMirror(m), fmt.Sprintf("mirrors[%d]", i), "%.100q; want such as https://feed.example.org/mirror/", m)
	}
	// The head is at its longest, so that it fits later, too.
	longest := Pointer{Version, mirror.Head{Version: mirror.HeadVersion, Number: 1e18, Sequence: 1e18, Time: 1e18, Until: 1e18, Files: 1e9, Bytes: 1e18,
		Root: fmt.Sprintf("%064d", 0), Previous: fmt.Sprintf("%064d", 0)}, c.Mirrors}
	text, err := json.Marshal(longest)
	p.Check(err == nil && len(text) <= maxText, "mirrors", "have too many bytes: an item of the table holds about 500 bytes of them")
	return p.Join()
}

func isMirror(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// Pointer is the value of the item, as JSON.
type Pointer struct {
	Version int         `json:"version"`
	Head    mirror.Head `json:"head"`
	Mirrors []string    `json:"mirrors"`
}

// Version is the version of the form of a Pointer.
const Version = 1

const (
	// maxValue is the longest value of an item, in bencoding (BEP 44).
	maxValue = 1000
	// maxText leaves room for the length before a string: "994:".
	maxText = maxValue - 4
)

// salt makes the item one of several that a key can have.
const salt = "dragnet feed 1"

// errValue says that an item is signed and yet no Pointer.
var errValue = errors.New("the item is signed by the publisher, but not one this program understands")

// parsePointer reads a value.
func parsePointer(text string) (*Pointer, error) {
	var p Pointer
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.Version != Version || p.Head.Version != mirror.HeadVersion {
		return nil, errValue
	}
	for _, m := range p.Mirrors {
		if !isMirror(m) {
			return nil, fmt.Errorf("%w: it names the mirror %.100q", errValue, m)
		}
	}
	return &p, nil
}
