//go:build linux

package recorder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"

	"dragnet/trace/kernel"
)

// A log is lines of JSON. Within a segment each line of a process precedes those
// that refer to it; a process is named by its PID and the tick in which it
// started. Times are milliseconds of Unix time. Empty fields are left out.
type line struct {
	Process    *processLine    `json:"p,omitempty"`
	Connection *connectionLine `json:"c,omitempty"`
	Summary    *summaryLine    `json:"s,omitempty"`
}

// processName is PID.START.
type processName string

func nameOf(id kernel.ProcessID) processName {
	b := strconv.AppendInt(make([]byte, 0, 24), int64(id.PID), 10)
	return processName(strconv.AppendUint(append(b, '.'), id.Start, 10))
}

func (n processName) pid() int32 {
	text, _, _ := bytes.Cut([]byte(n), []byte("."))
	pid, _ := strconv.ParseInt(string(text), 10, 32)
	return int32(pid)
}

type processLine struct {
	ID       processName `json:"i"`
	By       processName `json:"y,omitempty"`
	Born     int64       `json:"b"`
	Ended    int64       `json:"e,omitempty"`
	UID      uint32      `json:"u"`
	Login    *uint32     `json:"l,omitempty"`
	Session  *uint32     `json:"n,omitempty"`
	Name     string      `json:"m"`
	Terminal string      `json:"t,omitempty"`
	Cgroup   string      `json:"g,omitempty"`
	Argument []string    `json:"a,omitempty"`
}

// ending is one end pair of a connection, and when it was open.
type ending struct {
	Local     netip.AddrPort `json:"l"`
	Remote    netip.AddrPort `json:"r"`
	Started   int64          `json:"b"`           // ms since 1970, as Ended
	Ended     int64          `json:"e,omitempty"` // 0: it was open still
	Direction uint8          `json:"d"`
	NetNS     uint32         `json:"n,omitempty"` // where it is not ours
	// As other hosts know it, where that is not ours and addresses are translated.
	OutLocal  netip.AddrPort `json:"tl,omitzero"`
	OutRemote netip.AddrPort `json:"tr,omitzero"`
}

type connectionLine struct {
	ending
	UID     uint32        `json:"u"`
	Holders []processName `json:"h,omitempty"`
	Path    []pathLine    `json:"p,omitempty"`
	Origins []originLine  `json:"o,omitempty"`
	// Blind says that no process was seen to hold it.
	Blind bool `json:"x,omitempty"`
}

type pathLine struct {
	ID   processName `json:"i"`
	Via  string      `json:"v"`
	From int32       `json:"f,omitempty"`
}

type originLine struct {
	ending
	ID  processName `json:"i"` // who held it
	Why string      `json:"w"`
}

// summaryLine stands for connections of one user to one host beyond his share of
// a time slice: which local ports, of how many connections.
type summaryLine struct {
	UID    uint32     `json:"u"`
	Remote netip.Addr `json:"r,omitzero"` // invalid for connections to any host
	From   int64      `json:"b"`
	To     int64      `json:"e"`
	Count  int        `json:"c"`
	Ports  []byte     `json:"p"` // a bit for each local port
}

func (s *summaryLine) has(port uint16) bool {
	i := int(port / 8)
	return i < len(s.Ports) && s.Ports[i]&(1<<(port%8)) != 0
}

func (l line) encode() []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err) // these types always encode
	}
	return append(b, '\n')
}

func parseLine(b []byte) (line, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("read recorded line: %w", err)
	}
	return l, nil
}
