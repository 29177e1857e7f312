// Package outputs runs the outputs that a configuration turns on, all on one
// view: after each batch it reads what is published, and every output follows.
package outputs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/publish"
	"dragnet/publish/dnsbl"
	"dragnet/publish/mirror"
	"dragnet/publish/misp"
	"dragnet/publish/notice"
	"dragnet/publish/pointer"
	"dragnet/publish/taxii"
)

// Configuration of the outputs. Each is off until it is configured.
type Configuration struct {
	// Objections says how to object to an entry: a web page, or a mail address.
	// It is shown with every entry; nothing is published without.
	Objections string `yaml:"objections"`
	// Allow lists networks of which nothing is published, besides reserved
	// ranges, public resolvers, root name servers and software mirrors.
	Allow []netip.Prefix `yaml:"allow"`
	// AllowFiles are files with more, an address or prefix on each line: mirrors,
	// partners, customers.
	AllowFiles []string `yaml:"allow_files"`
	// Feed says how long changes are kept.
	Feed publish.Configuration `yaml:"feed"`
	// HTTP is where the outputs over HTTP are served.
	HTTP HTTP `yaml:"http"`
	// Mirror writes static files for web, FTP and rsync servers.
	Mirror mirror.Configuration `yaml:"mirror"`
	// Query answers queries by host, group, pattern, time and filter.
	Query Switch `yaml:"query"`
	// Block are the block lists among the mirror's files.
	Block BlockLists `yaml:"block"`
	// Sensors are the lists for Zeek and Suricata among the mirror's files.
	Sensors BlockLists `yaml:"sensors"`
	// OCSF writes changes as events among the mirror's files.
	OCSF Switch `yaml:"ocsf"`
	// MISP is a feed among the mirror's files.
	MISP misp.Configuration `yaml:"misp"`
	// LAPI serves bouncers of CrowdSec.
	LAPI LAPI `yaml:"lapi"`
	// TAXII serves STIX objects.
	TAXII taxii.Configuration `yaml:"taxii"`
	// Notice informs owners which of their hosts are published.
	Notice notice.Configuration `yaml:"notice"`
	// DNSBL is the list as a DNS zone.
	DNSBL dnsbl.Configuration `yaml:"dnsbl"`
	// Pointer says in a distributed hash table where the newest publication of
	// the mirror is found.
	Pointer pointer.Configuration `yaml:"pointer"`
}

// HTTP is where outputs over HTTP are served.
type HTTP struct {
	// Listen is an address such as 203.0.113.1:8480; empty serves none.
	Listen string `yaml:"listen"`
	// Certificate and Key are PEM files for TLS; without them, put a server with
	// TLS in front.
	Certificate string `yaml:"certificate"`
	// Key is that of the certificate.
	Key string `yaml:"key"`
	// Requests bounds how many requests are answered at a time: one address, or
	// bouncer, gets a quarter of them, all that are not bouncers half. A server in
	// front is one address.
	Requests int `yaml:"requests"`
}

// Switch turns an output on.
type Switch struct {
	// Serve turns it on.
	Serve bool `yaml:"serve"`
}

// BlockLists says what lists hold.
type BlockLists struct {
	// MinConfidence is what a host needs to be on a list; 0 writes none.
	MinConfidence int `yaml:"min_confidence"`
}

// LAPI says what bouncers get.
type LAPI struct {
	// MinConfidence is what a host needs to be blocked; 0 serves no bouncer.
	MinConfidence int `yaml:"min_confidence"`
	// Keys is a file with the name of a bouncer and the SHA-256 of its key on
	// each line ('dragnet feed key').
	Keys string `yaml:"keys"`
}

// DefaultConfiguration has no output.
func DefaultConfiguration() Configuration {
	return Configuration{
		Allow: []netip.Prefix{}, AllowFiles: []string{}, Feed: publish.DefaultConfiguration(), HTTP: HTTP{Requests: 512},
		Mirror: mirror.DefaultConfiguration(), DNSBL: dnsbl.DefaultConfiguration(), MISP: misp.DefaultConfiguration(), Notice: notice.DefaultConfiguration(), Pointer: pointer.DefaultConfiguration(),
	}
}

// Off reports whether there is no output.
func (c *Configuration) Off() bool {
	return c.HTTP.Listen == "" && c.Mirror.Directory == "" && c.DNSBL.Listen == "" && c.Notice.Directory == ""
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Off() || c.Objections != "", "objections", "is empty; say how an owner can object, such as https://example.org/objections: to be listed without a way to object is not fair")
	p.Check(len(c.Objections) <= 80, "objections", "has %d bytes; at most 80 fit beside a reason", len(c.Objections))
	for i, a := range c.Allow {
		p.Check(a.IsValid() && a == a.Masked(), fmt.Sprintf("allow[%d]", i), "is not a prefix")
	}
	p.Section("feed", c.Feed.Validate())
	p.Section("http", c.HTTP.validate())
	p.Section("mirror", c.Mirror.Validate())
	p.Check(!c.Query.Serve || c.HTTP.Listen != "", "query.serve", "needs http.listen")
	for _, list := range []struct {
		key   string
		least int
	}{{"block", c.Block.MinConfidence}, {"sensors", c.Sensors.MinConfidence}} {
		p.Check(list.least >= 0 && list.least <= 100, list.key+".min_confidence", "is %d; want 1 to 100, or 0 for none", list.least)
		p.Check(list.least == 0 || c.Mirror.Directory != "", list.key+".min_confidence", "needs mirror.directory: lists are files there")
	}
	p.Check(!c.OCSF.Serve || c.Mirror.Directory != "", "ocsf.serve", "needs mirror.directory")
	p.Check(c.MISP.Organisation == "" || c.Mirror.Directory != "", "misp.organisation", "needs mirror.directory")
	p.Check(c.TAXII.Title == "" || c.HTTP.Listen != "", "taxii.title", "needs http.listen")
	p.Check(c.TAXII.MinConfidence >= 0 && c.TAXII.MinConfidence <= 100, "taxii.min_confidence", "is %d; want 0 to 100", c.TAXII.MinConfidence)
	p.Section("notice", c.Notice.Validate())
	p.Section("lapi", c.validateLAPI())
	p.Section("dnsbl", c.DNSBL.Validate())
	p.Section("pointer", c.Pointer.Validate())
	p.Check(c.Pointer.Off() || c.Mirror.Directory != "", "pointer.bootstrap", "needs mirror.directory: the item points to a publication")
	return p.Join()
}

func (h *HTTP) validate() error {
	var p conf.Problems
	if h.Listen != "" {
		_, _, err := net.SplitHostPort(h.Listen)
		p.Check(err == nil, "listen", "%w; want such as 203.0.113.1:8480", err)
	}
	p.Check((h.Certificate == "") == (h.Key == ""), "certificate", "certificate and key belong together")
	p.Check(h.Requests >= 1 && h.Requests <= 100_000, "requests", "is %d; want 1 to 100000", h.Requests)
	return p.Join()
}

// private reports whether only the server sees the keys sent to it.
func (h *HTTP) private() bool {
	host, _, err := net.SplitHostPort(h.Listen)
	ip, bad := netip.ParseAddr(host)
	return h.Certificate != "" || err == nil && bad == nil && ip.IsLoopback()
}

func (c *Configuration) validateLAPI() error {
	if c.LAPI.MinConfidence == 0 {
		return nil
	}
	switch {
	case c.LAPI.MinConfidence < 0 || c.LAPI.MinConfidence > 100:
		return fmt.Errorf("min_confidence is %d; want 1 to 100, or 0 to serve no bouncer", c.LAPI.MinConfidence)
	case c.HTTP.Listen == "":
		return errors.New("needs http.listen")
	case c.LAPI.Keys == "":
		return errors.New("needs a file of keys; make one with 'dragnet feed key'")
	case !c.HTTP.private():
		return errors.New("bouncers send keys: set http.certificate and http.key, or listen on a loopback address behind a server with TLS")
	}
	return nil
}

// AllowList is what is never published.
func (c *Configuration) AllowList() (*flow.AllowList, error) {
	a := flow.NewAllowList()
	a.Add("publish.allow", c.Allow...)
	return a, a.AddFiles(c.AllowFiles...)
}
