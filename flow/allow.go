package flow

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/gaissmai/bart"
)

// AllowList holds networks of which no host is ever reported, published or
// blocked. It is made once and then only read.
type AllowList struct{ table bart.Table[string] }

// NewAllowList begins with the reserved ranges and the well-known servers.
func NewAllowList() *AllowList {
	a := &AllowList{}
	for _, list := range []struct{ name, prefixes string }{{"a reserved range", reserved}, {"a public resolver", resolvers}, {"a root name server", rootServers}, {"a software mirror", mirrors}} {
		for s := range strings.FieldsSeq(list.prefixes) {
			p := netip.MustParsePrefix(s)
			a.Add(list.name, p)
		}
	}
	return a
}

// Add extends the list; the name says whose networks they are. It must not be
// called once others read.
func (a *AllowList) Add(name string, prefixes ...netip.Prefix) {
	for _, p := range prefixes {
		a.table.Insert(p.Masked(), name)
	}
}

// AddFiles extends the list by files that ReadPrefixes reads.
func (a *AllowList) AddFiles(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		prefixes, err := ReadPrefixes(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		a.Add(path, prefixes...)
	}
	return nil
}

// Protects reports whether a host is on the list, and as what.
func (a *AllowList) Protects(host netip.Addr) (name string, ok bool) {
	return a.table.Lookup(host.Unmap())
}

// maxPrefixes bounds a file of prefixes.
const maxPrefixes = 1 << 20

// ReadPrefixes reads a list with an address or prefix on each line; '#' begins
// a comment. Host bits that are set are cleared.
func ReadPrefixes(r io.Reader) (all []netip.Prefix, err error) {
	scan := bufio.NewScanner(r)
	for line := 1; scan.Scan(); line++ {
		text, _, _ := strings.Cut(scan.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %.60q is neither an address nor a prefix", line, text)
		}
		if all = append(all, p); len(all) > maxPrefixes {
			return nil, fmt.Errorf("line %d: more than %d prefixes", line, maxPrefixes)
		}
	}
	return all, scan.Err()
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// reserved are the ranges of the IANA special-purpose registries (RFC 6890)
// whose addresses are no particular host on the Internet. Those for
// documentation and for benchmarks are not among them: nothing comes from
// there but examples.
const reserved = `0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16
224.0.0.0/4 240.0.0.0/4 ::/128 ::1/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 fc00::/7 fe80::/10 ff00::/8`

// resolvers are those of Cloudflare, Google, Quad9 and Cisco.
const resolvers = `1.1.1.1/32 1.0.0.1/32 8.8.8.8/32 8.8.4.4/32 9.9.9.9/32 149.112.112.112/32 208.67.222.222/32 208.67.220.220/32
2606:4700:4700::1111/128 2606:4700:4700::1001/128 2001:4860:4860::8888/128 2001:4860:4860::8844/128 2620:fe::fe/128
2620:fe::9/128 2620:119:35::35/128 2620:119:53::53/128`

// rootServers are a to m, as in IANA's root hints.
const rootServers = `198.41.0.4/32 170.247.170.2/32 192.33.4.12/32 199.7.91.13/32 192.203.230.10/32 192.5.5.241/32 192.112.36.4/32
198.97.190.53/32 192.36.148.17/32 192.58.128.30/32 193.0.14.129/32 199.7.83.42/32 202.12.27.33/32
2001:503:ba3e::2:30/128 2801:1b8:10::b/128 2001:500:2::c/128 2001:500:2d::d/128 2001:500:a8::e/128 2001:500:2f::f/128
2001:500:12::d0d/128 2001:500:1::53/128 2001:7fe::53/128 2001:503:c27::2:30/128 2001:7fd::1/128 2001:500:9f::42/128
2001:dc3::35/128`

// mirrors are Canonical's servers, and the networks by which Fastly hands out
// Debian, PyPI and others: everybody updates from there.
const mirrors = `91.189.88.0/21 185.125.188.0/22 151.101.0.0/16 199.232.0.0/16 146.75.0.0/17 2a04:4e40::/32 2a04:4e42::/32`
