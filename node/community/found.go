package community

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dragnet/internal/durable"
	"dragnet/wire/identity"
	"dragnet/wire/invitation"
)

// Folder is where the operator of a community keeps what founds it.
type Folder string

func (f Folder) join(name string) string { return filepath.Join(string(f), name) }

// Configuration is the file of the clearinghouse's configuration.
func (f Folder) Configuration() string { return f.join("clearinghouse.yaml") }

// Members is the file of the members.
func (f Folder) Members() string { return f.join("members.yaml") }

// SignerKey is the private key that signs the roster; it may be kept elsewhere.
func (f Folder) SignerKey() string { return f.join("signer.key") }

func (f Folder) server() string { return f.join("clearinghouse") }

// Roster is the signed roster that the clearinghouse reads.
func (f Folder) Roster() string { return filepath.Join(f.server(), "roster.bin") }

// linkFile holds the part of invitations that is the same in all.
func (f Folder) linkFile() string { return f.join("community.link") }

// Found makes the keys and the configuration of a new community in the folder. Who is
// at the address must be able to reach it at link.URL. It returns the link without
// member and secret.
func (f Folder) Found(name, address, listen string) (link invitation.Link, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return link, fmt.Errorf("%.200q: want an address such as https://203.0.113.1:8443", address)
	}
	if !invitation.IsName(name) {
		return link, fmt.Errorf("%.100q: a name has 1 to 63 lower-case letters, digits and hyphens", name)
	}
	if listen == "" {
		if listen = u.Host; u.Port() == "" {
			listen = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	if f, err = f.absolute(); err != nil {
		return link, err
	}
	if err := mustBeNew(string(f)); err != nil {
		return link, err
	}
	signer, err := identity.Create(f.SignerKey())
	if err != nil {
		return link, err
	}
	server, err := identity.Create(filepath.Join(f.server(), "identity.key"))
	if err != nil {
		return link, err
	}
	link = invitation.Link{URL: address, Community: name, Server: server.Public(), Signer: signer.Public()}
	files := map[string]string{
		f.Members(): fmt.Sprintf("# Members of the community %s. 'dragnet community admit' adds them here and signs.\nservers: [%s]\nmembers: []\n", name, server.Public()),
		f.Configuration(): fmt.Sprintf(`# The clearinghouse of the community %s, as 'dragnet community create' made it.
server:
  directory: %s
  signer: %s
  listen: %s
relay: {serve: true}
admin: {listen: %s}
`, name, quote(f.server()), signer.Public(), quote(listen), freeAdmin(clearingAdmin, 100)),
		f.linkFile(): (&invitation.Link{URL: address, Community: name, Member: name, Server: link.Server, Signer: link.Signer}).String() + "\n",
	}
	for path, text := range files {
		if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
			return link, err
		}
	}
	c, err := LoadConfiguration(f.Configuration())
	if err == nil {
		err = c.Validate()
	}
	return link, err
}

// Link is the link of the community in the folder, without member and secret.
func (f Folder) Link() (invitation.Link, error) {
	text, err := os.ReadFile(f.linkFile())
	if err != nil {
		return invitation.Link{}, err
	}
	l, err := invitation.Parse(string(text))
	l.Member = ""
	return l, err
}

func (f Folder) absolute() (Folder, error) {
	abs, err := filepath.Abs(string(f))
	return Folder(abs), err
}

func mustBeNew(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty; name a new folder", dir)
	}
	return err
}

// quote writes a text as YAML.
func quote(s string) string { return strconv.Quote(s) }

// Ports for health checks and metrics. Where they are in use, a node takes one of the next
// and a clearinghouse one of the hundreds above: neither runs yet when the other's is
// chosen.
const (
	nodeAdmin     = 9120
	clearingAdmin = 9122
)

// freeAdmin is a loopback address for health checks and metrics, of a port that nothing on
// this machine uses.
func freeAdmin(port, step int) string {
	for i := range 90 {
		p := port + i*step
		if p == clearingAdmin && port != clearingAdmin {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	return "127.0.0.1:0"
}

// MemberFolder is the folder of a member's node.
type MemberFolder string

func (m MemberFolder) join(name string) string { return filepath.Join(string(m), name) }

// Key is the private key with which the member asks, reports and testifies.
func (m MemberFolder) Key() string { return m.join("member.key") }

// Book is the file for 'dragnet question ask'.
func (m MemberFolder) Book() string { return m.join("book.yaml") }

// Site and Node are the files of the node's configuration.
func (m MemberFolder) Site() string { return m.join("site.yaml") }

// Node is the second of them.
func (m MemberFolder) Node() string { return m.join("node.yaml") }

// HeldRoster is the newest roster that was accepted.
func (m MemberFolder) HeldRoster() string { return m.join("roster.held") }

// linkFile holds the invitation while it is being used.
func (m MemberFolder) linkFile() string { return m.join("invitation") }

// OpenKey makes the member's key in a new folder, or finds the one that an earlier
// attempt with the same invitation made. A folder that holds something else is
// refused, and so is one whose key is gone: a new key would be another member.
func (m MemberFolder) OpenKey(l *invitation.Link) (*identity.Key, error) {
	saved, err := os.ReadFile(m.linkFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := mustBeNew(string(m)); err != nil {
			return nil, err
		}
		k, err := identity.Create(m.Key())
		if err != nil {
			return nil, err
		}
		return k, durable.WriteFile(m.linkFile(), []byte(l.String()+"\n"), 0o600)
	case err != nil:
		return nil, err
	case strings.TrimSpace(string(saved)) != l.String():
		return nil, fmt.Errorf("%s belongs to another invitation; name a new folder", m)
	}
	k, err := identity.Load(m.Key())
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: the key of this member is lost; restore it, or ask for a new invitation", err)
	}
	return k, err
}

// WriteFiles writes the member's configuration: a node that is a witness at the
// community's relay, and a book that finds the witnesses of all members there. Files
// that are there already stay.
func (m MemberFolder) WriteFiles(l *invitation.Link, networks []netip.Prefix, logs []string) error {
	abs, err := filepath.Abs(string(m))
	if err != nil {
		return err
	}
	m = MemberFolder(abs)
	listed := make([]string, len(networks))
	for i, n := range networks {
		listed[i] = n.String()
	}
	follow := ""
	if len(logs) > 0 {
		quoted := make([]string, len(logs))
		for i := range logs {
			path, err := filepath.Abs(logs[i])
			if err != nil {
				return err
			}
			quoted[i] = quote(path)
		}
		follow = "follow: {logs: [" + strings.Join(quoted, ", ") + "]}\n"
	}
	where := fmt.Sprintf("{url: %s, key: %s}", quote(l.URL), quote(l.Server.String()))
	files := map[string]string{
		m.Site(): fmt.Sprintf("site:\n  name: %s\n  networks: [%s]\n", l.Member, strings.Join(listed, ", ")),
		m.Node(): fmt.Sprintf(`# The node of %s in the community %s, as 'dragnet community join' made it.
store: {directory: %s}
%sadmin: {listen: %s}
witness:
  key: %s
  relays: [%s]
  clearinghouse: %s
  roster: {signer: %s}
`, l.Member, l.Community, quote(m.join("data")), follow, freeAdmin(nodeAdmin, 1), quote(m.Key()), where, where, quote(l.Signer.String())),
		m.Book(): fmt.Sprintf(`# Whom %s asks: the witnesses of all members, at the community's relay.
relays: [{name: %s, url: %s, key: %s}]
clearinghouse: {name: %s, url: %s, key: %s}
roster: {signer: %s, file: %s}
`, l.Member, l.Community, quote(l.URL), quote(l.Server.String()), l.Community, quote(l.URL), quote(l.Server.String()), quote(l.Signer.String()), quote(m.HeldRoster())),
	}
	for path, text := range files {
		if _, err := os.Stat(path); err == nil {
			continue // of an earlier attempt, and perhaps changed since
		}
		if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
