// Package record defines what an ident daemon saves about a connection: the
// list of the paper (Carrier and Shields 2002, section III-C) and what Linux
// has added since. Records are JSON; fields are added, never changed, so a
// record of an older version stays readable and its token stays valid.
package record

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Version is the version of the record's layout.
const Version = 1

// Record is the state saved for one token.
type Record struct {
	Version int       `json:"v"`
	Time    time.Time `json:"time"`
	// Asker is the machine that sent the request.
	Asker   netip.Addr     `json:"asker"`
	Kind    string         `json:"kind"`
	Session *uint32        `json:"session,omitempty"`
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`
	// At is the time asked about, if the question was about a connection of the
	// past; Started and Ended are when the flight recorder saw that open and end.
	At      time.Time `json:"at,omitzero"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Outcome says why there is no owner, or why less was done than asked:
	// "no such connection", "loop", "asker may not ask for SV".
	Outcome string `json:"outcome,omitempty"`
	// First is the token given when a loop's request was first seen.
	First string `json:"first,omitempty"`

	UID       *uint32 `json:"uid,omitempty"`
	User      string  `json:"user,omitempty"`
	Inode     uint64  `json:"inode,omitempty"`
	Cookie    uint64  `json:"cookie,omitempty"`
	Direction string  `json:"direction,omitempty"`

	Host      *Host           `json:"host,omitempty"`
	Processes []ProcessRecord `json:"processes,omitempty"`
	// Truncated says that there were more processes than the limit.
	Truncated bool    `json:"truncated,omitempty"`
	Logins    []Login `json:"logins,omitempty"`
	// End is set for requests that walk; older daemons do not set it.
	End *End `json:"end,omitempty"`
}

// Host is the machine the record was made on.
type Host struct {
	Name    string    `json:"name"`
	Boot    time.Time `json:"boot"`
	OS      string    `json:"os"`
	Release string    `json:"release"`
	// Kernel is the kernel's build and its date, as uname gives it.
	Kernel  string `json:"kernel"`
	Machine string `json:"machine"`
}

// ProcessRecord is one process of the walk.
type ProcessRecord struct {
	PID    int32  `json:"pid"`
	Parent int32  `json:"ppid"`
	Name   string `json:"name"`
	// Via and From are how the walk reached it; Shared is the inode of the pipe
	// or socket.
	Via    string `json:"via"`
	From   int32  `json:"from,omitempty"`
	Shared uint64 `json:"shared,omitempty"`
	// Gone says that it ended, or that its PID was reused, during the walk.
	Gone    bool      `json:"gone,omitempty"`
	UID     uint32    `json:"uid"`
	EUID    uint32    `json:"euid"`
	Started time.Time `json:"started,omitzero"`
	// Ended and Arguments are what the flight recorder saw.
	Ended     time.Time      `json:"ended,omitzero"`
	Arguments []string       `json:"arguments,omitempty"`
	Nice      int            `json:"nice,omitempty"`
	Terminal  string         `json:"tty,omitempty"`
	Sockets   []SocketRecord `json:"sockets,omitempty"`
	Files     []string       `json:"files,omitempty"`
	Pipes     []uint64       `json:"pipes,omitempty"`
	More      int            `json:"more,omitempty"` // descriptors beyond the limit
	Cgroup    string         `json:"cgroup,omitempty"`
	Container string         `json:"container,omitempty"`
	Unit      string         `json:"unit,omitempty"`
	NetNS     uint32         `json:"netns,omitempty"` // where it is not the daemon's
	// Executable is the path, SHA256 the hash of the file that runs, even if
	// the path names another one by now.
	Executable string `json:"exe,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	// SSH is SSH_CONNECTION of its environment: a claim, since a process may
	// change its environment. LoginUID and SessionID are the kernel's.
	SSH       string  `json:"ssh,omitempty"`
	LoginUID  *uint32 `json:"loginuid,omitempty"`
	SessionID *uint32 `json:"sessionid,omitempty"`
}

// SocketRecord is an open socket.
type SocketRecord struct {
	Inode uint64 `json:"inode"`
	// Local and Remote are set for TCP only.
	Local     netip.AddrPort `json:"local,omitzero"`
	Remote    netip.AddrPort `json:"remote,omitzero"`
	State     string         `json:"state,omitempty"`
	Direction string         `json:"direction,omitempty"`
}

// Login is an entry of utmp of a user who occurs in the record.
type Login struct {
	User string    `json:"user"`
	Line string    `json:"line"`
	Host string    `json:"host,omitempty"`
	PID  int32     `json:"pid"`
	Time time.Time `json:"time"`
}

// Previous holds the answers of the previous hosts to a recursive request. It
// is kept with the token of the request and never sent to the asker.
type Previous struct {
	Version int       `json:"v"`
	Time    time.Time `json:"time"`
	Token   string    `json:"token"`
	Session uint32    `json:"session"`
	Answers []Answer  `json:"answers"`
	// Skipped counts connections that were not followed, beyond the limit.
	Skipped int `json:"skipped,omitempty"`
	// Executables are programs that were hashed after the answer, being large.
	Executables []Executable `json:"executables,omitempty"`
}

// Executable is the program of some processes of a record.
type Executable struct {
	Path string  `json:"exe"`
	PIDs []int32 `json:"pids"`
	// SHA256 is empty if Failure says why it was not hashed.
	SHA256  string `json:"sha256,omitempty"`
	Failure string `json:"failure,omitempty"`
}

// Answer is the answer of one previous host about one connection.
type Answer struct {
	Host  netip.Addr `json:"host"`
	Ports [2]uint16  `json:"ports"` // on that host, on this one
	// Direction says whether the connection is known to be inbound.
	Direction string `json:"direction"`
	// At is the time asked about, and Why how that connection is related, where
	// the flight recorder told of it.
	At  time.Time `json:"at,omitzero"`
	Why string    `json:"why,omitempty"`
	// Exactly one of these is set. Ident is the name a plain ident daemon gave:
	// it follows no chain, and nothing proves it. Failure is an error word, or
	// why there was no answer.
	Token   string `json:"token,omitempty"`
	Ident   string `json:"ident,omitempty"`
	Failure string `json:"failure,omitempty"`
	// Earlier is the token of an earlier request of the same session to this
	// host: the same was asked for that one, and the answer is kept with it.
	Earlier string `json:"earlier,omitempty"`
}

// Parse reads a Record.
func Parse(b []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read record: %w", err)
	}
	if r.Version != Version {
		return r, fmt.Errorf("record of version %d; this program reads version %d", r.Version, Version)
	}
	return r, nil
}

// ParsePrevious reads a Previous.
func ParsePrevious(b []byte) (Previous, error) {
	var p Previous
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read answers of previous hosts: %w", err)
	}
	if p.Version != Version {
		return p, fmt.Errorf("answers of version %d; this program reads version %d", p.Version, Version)
	}
	return p, nil
}
