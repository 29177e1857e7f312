// Package nginx reads access logs that nginx writes in this format, of its http
// and of its stream module (nginx documentation, "ngx_http_log_module",
// "ngx_stream_log_module"):
//
//	log_format dragnet 'dragnet $msec $request_time $remote_addr $remote_port $server_addr $server_port $request_length $bytes_sent $status';
//	log_format dragnet 'dragnet $msec $session_time $remote_addr $remote_port $server_addr $server_port $bytes_received $bytes_sent $status';
//
// The formats that nginx knows by itself, combined among them, name no server
// and no ports. A line is a request, or a session of stream: a connection that
// was kept open gives a flow for each of its requests. Bytes are of HTTP, before
// TLS. A connection that nginx opens to an upstream server is not in its log.
package nginx

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/source/lines"
)

// Format is that of the log_format above.
var Format = lines.Format{Name: "nginx access log", Is: is, Parse: parse}

// Columns of a line.
const (
	mark, when, took, client, clientPort, server, serverPort, received, sent, status = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9

	columns = 10
)

// name is the first word of each line.
const name = "dragnet"

func is(prefix []byte) bool {
	line, _, _ := bytes.Cut(prefix, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) != columns || f[mark] != name {
		return false
	}
	_, err := seconds(f[when])
	return err == nil
}

// Reasons why a line cannot be used.
var (
	errColumns = errors.New("not the ten columns of the log_format dragnet")
	errTime    = errors.New("the second and third columns are not seconds")
	errEnds    = errors.New("client or server is not an address with a port; a connection over a Unix socket has none")
	errCounts  = errors.New("the columns of bytes are not numbers")
)

// seconds reads seconds with a fraction of milliseconds.
func seconds(s string) (time.Duration, error) {
	whole, part, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole, 10, 32)
	if err != nil {
		return 0, errTime
	}
	nanos, err := strconv.ParseUint((part + "000000000")[:9], 10, 64)
	if err != nil {
		return 0, errTime
	}
	return time.Duration(n)*time.Second + time.Duration(nanos), nil
}

func parse(line []byte, f *flow.Flow) (bool, error) {
	fields := strings.Fields(string(line))
	if len(fields) != columns || fields[mark] != name {
		return false, errColumns
	}
	end, err1 := seconds(fields[when])
	lasted, err2 := seconds(fields[took])
	if errors.Join(err1, err2) != nil {
		return false, errTime
	}
	orig, err1 := netip.ParseAddrPort(join(fields[client], fields[clientPort]))
	resp, err2 := netip.ParseAddrPort(join(fields[server], fields[serverPort]))
	if errors.Join(err1, err2) != nil {
		return false, errEnds
	}
	f.OrigBytes, err1 = strconv.ParseUint(fields[received], 10, 64)
	f.RespBytes, err2 = strconv.ParseUint(fields[sent], 10, 64)
	if errors.Join(err1, err2) != nil {
		return false, errCounts
	}
	f.Orig, f.OrigPort = orig.Addr().Unmap().WithZone(""), orig.Port()
	f.Resp, f.RespPort = resp.Addr().Unmap().WithZone(""), resp.Port()
	f.Start, f.Duration = flow.Time(end-lasted), lasted
	// Whatever the status, the client had connected; datagrams of a stream
	// server are not told apart.
	f.Proto, f.State, f.Sampling, f.Known = flow.TCP, flow.SF, 1, flow.Lasting|flow.Payload
	return true, nil
}

func join(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}
