// Package faillog turns the drop logs of firewalls into FailLog messages, so
// that SYNs which a customer's firewall swallows without an answer count as
// failures at the edge of their source (Tang 2006, section 2.3.10).
//
// It parses the text that nftables and iptables, pf (as pfSense's and
// OPNsense's filterlog, and as tcpdump prints pflog), Cisco ASA and Cisco IOS
// send by syslog. Only refused TCP connection requests matter; all other lines
// are ErrOther.
package faillog

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"dragnet/daw"
	"dragnet/flow"
)

// ErrOther marks valid lines that do not report a refused SYN.
var ErrOther = errors.New("not the log of a refused connection request")

// longest bounds a line: syslog over UDP is cut at 2 KiB (RFC 5426, section
// 3.2).
const longest = 2048

// formats are tried in order; the first whose mark is in the line decides.
var formats = []struct {
	mark  string
	parse func(string) (daw.FailLog, error)
}{
	{"filterlog", parseFilterlog},
	{"%ASA-", parseCisco},
	{"%SEC-", parseCisco},
	{" SRC=", parseNetfilter},
	{"block ", parsePflog},
}

// Parse reads one line of device, received at now.
func Parse(line []byte, device string, now flow.Time) (daw.FailLog, error) {
	if len(line) > longest {
		return daw.FailLog{}, fmt.Errorf("log line of %q is %d bytes long, the limit is %d", device, len(line), longest)
	}
	text := string(bytes.TrimSpace(line))
	for _, f := range formats {
		if !strings.Contains(text, f.mark) {
			continue
		}
		l, err := f.parse(text)
		if err != nil {
			return daw.FailLog{}, err
		}
		l.Time, l.Device = now, device
		return l, l.Validate()
	}
	return daw.FailLog{}, ErrOther
}

// parseNetfilter reads what the kernel's LOG target and nft's log statement write:
// KEY=VALUE words, and TCP flags as bare words.
func parseNetfilter(text string) (daw.FailLog, error) {
	value, flags := map[string]string{}, map[string]bool{}
	for _, word := range strings.Fields(text) {
		if k, v, ok := strings.Cut(word, "="); ok {
			if _, seen := value[k]; !seen { // the first header, not one that ICMP quotes
				value[k] = v
			}
		} else {
			flags[word] = true
		}
	}
	if value["PROTO"] != "TCP" || !flags["SYN"] || flags["ACK"] || flags["RST"] {
		return daw.FailLog{}, ErrOther
	}
	return makeFailLog(value["SRC"], value["DST"], value["SPT"], value["DPT"])
}

// parseFilterlog reads the comma-separated form of pfSense and OPNsense: rule,
// sub-rule, anchor, tracker, interface, reason, action, direction, version;
// then per version the IP fields, and for TCP ports, length, flags.
func parseFilterlog(text string) (daw.FailLog, error) {
	_, list, ok := strings.Cut(text, ": ")
	if i := strings.LastIndex(text, ": "); ok && i >= 0 {
		list = text[i+2:]
	}
	f := strings.Split(list, ",")
	const action, version = 6, 8
	if len(f) <= version || f[action] != "block" && f[action] != "reject" {
		return daw.FailLog{}, ErrOther
	}
	proto, first := 16, 18 // IPv4: tos, ecn, ttl, id, offset, flags, number, name, length, source
	if f[version] == "6" {
		proto, first = 12, 15 // IPv6: class, label, hops, name, number, length, source
	}
	if len(f) < first+6 || !strings.EqualFold(f[proto], "tcp") || f[first+5] != "S" {
		return daw.FailLog{}, ErrOther
	}
	return makeFailLog(f[first], f[first+1], f[first+2], f[first+3])
}

// Patterns of Cisco's messages (106001, 106023, IPACCESSLOGP) and of tcpdump
// on pflog.
var (
	asaDenied  = regexp.MustCompile(`Deny tcp src \S+?:(\S+?)/(\d+)(?:\([^)]*\))? dst \S+?:(\S+?)/(\d+)`)
	asaInbound = regexp.MustCompile(`TCP connection denied from (\S+?)/(\d+) to (\S+?)/(\d+) flags SYN +on`)
	iosDenied  = regexp.MustCompile(`denied tcp (\S+?)\((\d+)\)(?: \([^)]*\))? -> (\S+?)\((\d+)\)`)
	pfBlocked  = regexp.MustCompile(`block \S+ on \S+: (\S+)\.(\d+) > (\S+)\.(\d+): (?:Flags \[S\]|S )`)
)

func parseCisco(text string) (daw.FailLog, error) {
	return matchPatterns(text, asaDenied, asaInbound, iosDenied)
}

func parsePflog(text string) (daw.FailLog, error) { return matchPatterns(text, pfBlocked) }

func matchPatterns(text string, patterns ...*regexp.Regexp) (daw.FailLog, error) {
	for _, p := range patterns {
		if m := p.FindStringSubmatch(text); m != nil {
			return makeFailLog(m[1], m[3], m[2], m[4])
		}
	}
	return daw.FailLog{}, ErrOther
}

func makeFailLog(src, dst, srcPort, dstPort string) (l daw.FailLog, err error) {
	if l.Src, err = parseAddr(src); err == nil {
		l.Dst, err = parseAddr(dst)
	}
	if err == nil {
		l.SrcPort, err = parsePort(srcPort)
	}
	if err == nil {
		l.DstPort, err = parsePort(dstPort)
	}
	if err != nil {
		return daw.FailLog{}, fmt.Errorf("log of a refused connection request: %w", err)
	}
	return l, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%q is not an address", s)
	}
	return a.Unmap().WithZone(""), nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}
