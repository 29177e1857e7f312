// Package session records what both sides of a connection, or of an exchange of
// datagrams, sent to each other, and when.
package session

import (
	"crypto/rand"
	"net/netip"
	"strings"
	"sync"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Stage is where in the double honeypot a session was seen (Tang 2006, section
// 2.2).
type Stage string

// The stages.
const (
	// Inbound is a session of an attacker with an inbound honeypot.
	Inbound Stage = "inbound"
	// Outbound is one that an inbound honeypot opened: attack traffic by
	// construction.
	Outbound Stage = "outbound"
)

// Session is one connection or exchange of datagrams. Its JSON form is a line of
// the sessions' file: fields are added, never changed.
type Session struct {
	// ID is random; 26 letters and digits.
	ID    string `json:"id"`
	Stage Stage  `json:"stage"`
	// Client opened the session; Server is the address that it meant, not the one
	// that answered.
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	Proto  flow.Proto     `json:"proto"`
	// Service is the protocol that was emulated, such as "http", or "tls/http".
	Service string `json:"service"`
	// Login is the user name and the password that the client gave, if the protocol
	// carries them apart from what it does, as SSH; cut to 256 bytes.
	Login string    `json:"login,omitempty"`
	Start flow.Time `json:"start"`
	End   flow.Time `json:"end"`
	// Chunks say who sent how many bytes when; the bytes themselves are in Sent
	// and Answered, in that order.
	Chunks []Chunk `json:"chunks"`
	// Lost counts the bytes that were received and not kept.
	Lost uint64 `json:"lost"`
	// Reason is why it ended: closed, idle, limit, reset, stopped.
	Reason string `json:"reason"`

	// Sent is what the client sent, Answered what it was answered.
	Sent     []byte `json:"-"`
	Answered []byte `json:"-"`
}

// Chunk is what one side sent at one time.
type Chunk struct {
	Time flow.Time `json:"time"`
	// Answer is false for what the client sent.
	Answer bool `json:"answer,omitempty"`
	Bytes  int  `json:"bytes"`
}

// Capture is what the client sent, as the signature centre takes it.
func (s *Session) Capture() dossier.Capture {
	return dossier.Capture{
		Time: s.Start, Source: s.Client, Target: s.Server, Proto: s.Proto, Trapped: s.Stage == Outbound, Payload: s.Sent, Lost: s.Lost,
	}
}

// maxChunks bounds the chunks of a session; further bytes are added to the last
// one of their side.
const maxChunks = 4096

// Recorder fills a Session. It is safe for concurrent use.
type Recorder struct {
	limit int
	now   func() time.Time

	mu      sync.Mutex // guards all below
	session Session
	ended   bool
	memory  *Memory // nil for a recorder alone
	held    int64   // bytes of sides and chunks
	taken   int64   // of these from memory
}

// NewRecorder records at most limit bytes of each side; what is beyond is
// counted.
func NewRecorder(s Session, limit int, now func() time.Time) *Recorder {
	s.ID, s.Start = rand.Text(), flow.FromTime(now())
	return &Recorder{limit: limit, now: now, session: s}
}

// Add records bytes of the client, or with answer those it was answered.
func (r *Recorder) Add(answer bool, b []byte) {
	if len(b) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	s := &r.session
	to := &s.Sent
	if answer {
		to = &s.Answered
	}
	keep := r.reserve(min(len(b), r.limit-len(*to)))
	s.Lost += uint64(len(b) - keep)
	if keep == 0 {
		return
	}
	*to = append(*to, b[:keep]...)
	now := flow.FromTime(r.now())
	full := len(s.Chunks) >= maxChunks || r.reserve(chunkBytes) < chunkBytes
	if n := len(s.Chunks); n > 0 && s.Chunks[n-1].Answer == answer && (full || s.Chunks[n-1].Time == now) {
		s.Chunks[n-1].Bytes += keep
		return
	}
	if full {
		for i := len(s.Chunks) - 1; i >= 0; i-- {
			if s.Chunks[i].Answer == answer {
				s.Chunks[i].Bytes += keep
				return
			}
		}
	}
	s.Chunks = append(s.Chunks, Chunk{now, answer, keep})
}

// SetService names the protocol that is emulated.
func (r *Recorder) SetService(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session.Service = name
}

// maxLogin bounds Login.
const maxLogin = 256

// SetLogin records what the client logged in with.
func (r *Recorder) SetLogin(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	login := strings.ToValidUTF8(user+" "+password, "?")
	r.session.Login = strings.ToValidUTF8(login[:min(len(login), maxLogin)], "")
}

// Received is the number of bytes kept of the client so far.
func (r *Recorder) Received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.session.Sent)
}

// Finish ends the recording, once, and returns the session.
func (r *Recorder) Finish(reason string) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.session.End, r.session.Reason = flow.FromTime(r.now()), reason
	done := r.session
	return &done
}
