// Package squid reads Squid's access.log in its native format (Squid wiki,
// "Access Log"): seconds since 1970, milliseconds it took, client, result and
// status, bytes sent to the client, method, URL, user, hierarchy and peer,
// content type.
//
// A line is a flow from the client to the server that the proxy asked in its
// stead, which follows the hierarchy code (HIER_DIRECT/198.51.100.7) or
// in the URL. A line without the address of a server, such as of an answer from
// the cache, has no flow and is counted as skipped. The log knows no ports
// of clients, which are 0, no packets, and no bytes of requests.
package squid

import (
	"bytes"
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/source/lines"
)

// Format is that of access.log.
var Format = lines.Format{Name: "Squid access.log", Is: is, Parse: parse}

// Columns of a line.
const (
	when, took, client, result, target, peer = 0, 1, 2, 3, 6, 8

	columns = 10
)

// is looks whether the first line has the ten columns, with a result such as
// TCP_MISS/200 and a peer such as HIER_NONE/- at their places.
func is(prefix []byte) bool {
	line, _, _ := bytes.Cut(prefix, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) != columns || !strings.Contains(f[peer], "/") {
		return false
	}
	code, status, _ := strings.Cut(f[result], "/")
	_, err := strconv.ParseUint(status, 10, 16)
	_, bad := times(f)
	return err == nil && bad == nil && strings.ToUpper(code) == code
}

// Reasons why a line cannot be used.
var (
	errColumns = errors.New("not the ten columns of Squid's native format")
	errTime    = errors.New("the first two columns are not seconds since 1970 and milliseconds")
	errClient  = errors.New("the client is not an address; set 'log_fqdn off' in squid.conf")
	errServer  = errors.New("no address of a server: answered by the cache, refused, or logged by name")
)

// span is when a request began and how long it took.
type span struct {
	start flow.Time
	took  time.Duration
}

// times reads when a request ended and how long it took.
func times(f []string) (span, error) {
	whole, part, _ := strings.Cut(f[when], ".")
	seconds, err1 := strconv.ParseUint(whole, 10, 33)
	nanos, err2 := strconv.ParseUint((part + "000000000")[:9], 10, 64)
	millis, err3 := strconv.ParseUint(f[took], 10, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return span{}, errTime
	}
	d := time.Duration(millis) * time.Millisecond
	return span{flow.Time(seconds)*1e9 + flow.Time(nanos) - flow.Time(d), d}, nil
}

func parse(line []byte, f *flow.Flow) (bool, error) {
	fields := strings.Fields(string(line))
	if len(fields) != columns {
		return false, errColumns
	}
	at, err := times(fields)
	if err != nil {
		return false, err
	}
	if f.Orig, err = netip.ParseAddr(fields[client]); err != nil {
		return false, errClient
	}
	host, port := server(fields[target])
	f.Resp, err = netip.ParseAddr(fields[peer][strings.IndexByte(fields[peer], '/')+1:])
	if err != nil {
		if f.Resp, err = netip.ParseAddr(host); err != nil {
			return false, errServer
		}
	}
	f.Orig, f.Resp = f.Orig.Unmap().WithZone(""), f.Resp.Unmap().WithZone("")
	f.Start, f.Duration, f.Known = at.start, at.took, flow.Lasting
	f.RespPort, f.Proto, f.Sampling = port, flow.TCP, 1
	f.State = state(fields[result])
	return true, nil
}

// server finds host and port of a URL, or of the authority of a CONNECT.
func server(target string) (host string, port uint16) {
	if !strings.Contains(target, "://") {
		target = "connect://" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", 0
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return u.Hostname(), uint16(n)
	}
	return u.Hostname(), map[string]uint16{"http": 80, "https": 443, "connect": 443, "ftp": 21}[u.Scheme]
}

// state says that the server answered, if it did: 5xx may be the proxy's own
// answer for a server that did not, and 000 is none.
func state(result string) flow.State {
	_, status, _ := strings.Cut(result, "/")
	if len(status) == 3 && status >= "100" && status < "500" {
		return flow.SF
	}
	return flow.StateUnknown
}
