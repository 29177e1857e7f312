package zeek

import "dragnet/flow"

// column is a column of conn.log that a Flow can hold, or that decides whether
// the line is one.
type column uint8

const (
	noColumn column = iota
	colTime
	colOrigAddr
	colOrigPort
	colRespAddr
	colRespPort
	colProto
	colIPProto
	colState
	colDuration
	colOrigBytes
	colRespBytes
	colMissedBytes
	colHistory
	colOrigPkts
	colOrigIPBytes
	colRespPkts
	colRespIPBytes
	colPath // JSON only: which log a line belongs to
	numColumns
)

// columns are the name of each column in messages, its required form, and the
// optional group it belongs to; group 0 is always wanted.
var columns = [numColumns]struct {
	name, want string
	group      flow.Columns
}{
	colTime:        {name: "ts", want: "a time between 1970 and 2106"},
	colOrigAddr:    {name: "id.orig_h", want: "an address"},
	colOrigPort:    {name: "id.orig_p", want: "a port 0-65535"},
	colRespAddr:    {name: "id.resp_h", want: "an address"},
	colRespPort:    {name: "id.resp_p", want: "a port 0-65535"},
	colProto:       {name: "proto", want: "a protocol"},
	colIPProto:     {name: "ip_proto", want: "a protocol number"},
	colState:       {name: "conn_state", want: "one of Zeek's states (S0, SF, REJ ...)"},
	colDuration:    {name: "duration", want: "a number of seconds", group: flow.Lasting},
	colOrigBytes:   {name: "orig_bytes", want: "a count", group: flow.Payload},
	colRespBytes:   {name: "resp_bytes", want: "a count", group: flow.Payload},
	colMissedBytes: {name: "missed_bytes", want: "a count", group: flow.Payload},
	colHistory:     {name: "history", want: "text", group: flow.History},
	colOrigPkts:    {name: "orig_pkts", want: "a count", group: flow.Counts},
	colOrigIPBytes: {name: "orig_ip_bytes", want: "a count", group: flow.Counts},
	colRespPkts:    {name: "resp_pkts", want: "a count", group: flow.Counts},
	colRespIPBytes: {name: "resp_ip_bytes", want: "a count", group: flow.Counts},
	colPath:        {name: "_path", want: "conn"},
}

// columnNamed finds a column by its name in the log. Zeek's default separator
// of record scopes is a dot; Log::default_scope_sep is often set to "_".
func columnNamed(name []byte) column {
	switch string(name) {
	case "ts":
		return colTime
	case "id.orig_h", "id_orig_h":
		return colOrigAddr
	case "id.orig_p", "id_orig_p":
		return colOrigPort
	case "id.resp_h", "id_resp_h":
		return colRespAddr
	case "id.resp_p", "id_resp_p":
		return colRespPort
	case "proto":
		return colProto
	case "ip_proto":
		return colIPProto
	case "conn_state":
		return colState
	case "duration":
		return colDuration
	case "orig_bytes":
		return colOrigBytes
	case "resp_bytes":
		return colRespBytes
	case "missed_bytes":
		return colMissedBytes
	case "history":
		return colHistory
	case "orig_pkts":
		return colOrigPkts
	case "orig_ip_bytes":
		return colOrigIPBytes
	case "resp_pkts":
		return colRespPkts
	case "resp_ip_bytes":
		return colRespIPBytes
	case "_path":
		return colPath
	}
	return noColumn
}

// endpointNamed finds a column inside a nested "id" object.
func endpointNamed(name []byte) column {
	switch string(name) {
	case "orig_h":
		return colOrigAddr
	case "orig_p":
		return colOrigPort
	case "resp_h":
		return colRespAddr
	case "resp_p":
		return colRespPort
	}
	return noColumn
}

// wantedColumns reports for each column whether cols needs it.
func wantedColumns(cols flow.Columns) (w [numColumns]bool) {
	for c := noColumn + 1; c < numColumns; c++ {
		w[c] = columns[c].group == 0 || cols&columns[c].group != 0
	}
	return w
}
