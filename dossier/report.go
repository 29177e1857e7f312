package dossier

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// Report is what a detective reports to the clearinghouse: the hosts that match
// a pattern, as confirmed by witnesses (Allman et al. 2006, section 2.3). It
// names neither the detective, which is the signer of its envelope, nor any
// witness.
type Report struct {
	// Pattern is in canonical form (pattern.Canonical).
	Pattern string `json:"pattern"`
	// Disclose lets the clearinghouse publish the pattern. Its addresses may
	// reveal who asked, such as those of a honeypot.
	Disclose bool `json:"disclose"`
	// Made is when the detective finished, Until when the report expires.
	Made  flow.Time `json:"made"`
	Until flow.Time `json:"until"`
	// Asked is how many independent witnesses were asked.
	Asked uint16 `json:"asked"`
	// Hosts are in order of their addresses.
	Hosts []ReportedHost `json:"hosts"`
}

// ReportedHost is one host of the group.
type ReportedHost struct {
	// Addr is globally unique: private addresses are not reported.
	Addr netip.Addr `json:"host"`
	// Witnesses is how many independent witnesses named it.
	Witnesses uint16 `json:"witnesses"`
	// First and Last bound the matching flows.
	First flow.Time `json:"first_seen"`
	Last  flow.Time `json:"last_seen"`
}

// Bounds of a report.
const (
	MaxReportedHosts = 1 << 15
	MaxReport        = 2 << 20                     // bytes
	MaxReportLife    = flow.Time(90 * 24 * 3600e9) // from Made to Until
)

const reportVersion = 1

// Check reports the first reason why r is not valid.
func (r *Report) Check() error {
	p, err := pattern.Parse(r.Pattern, pattern.NoFiles)
	if err != nil {
		return err
	}
	if canonical, err := p.Canonical(); err != nil {
		return err
	} else if canonical != r.Pattern {
		return errors.New("the pattern is not in its canonical form")
	}
	if life := r.Until - r.Made; r.Made < 0 || r.Until < 0 || life <= 0 || life > MaxReportLife {
		return fmt.Errorf("its lifetime must be positive and at most %v", MaxReportLife.Time().Sub(flow.Time(0).Time()))
	}
	if len(r.Hosts) == 0 || len(r.Hosts) > MaxReportedHosts {
		return fmt.Errorf("%d hosts; want 1 to %d", len(r.Hosts), MaxReportedHosts)
	}
	for i, h := range r.Hosts {
		switch {
		case !flow.Global(h.Addr) || h.Addr.Is4In6() || h.Addr.Zone() != "":
			return fmt.Errorf("host %s is not globally unique", h.Addr)
		case i > 0 && !r.Hosts[i-1].Addr.Less(h.Addr):
			return fmt.Errorf("host %s is out of order or repeated", h.Addr)
		case h.Witnesses == 0 || h.Witnesses > r.Asked:
			return fmt.Errorf("host %s: named by %d of %d witnesses", h.Addr, h.Witnesses, r.Asked)
		case h.First > h.Last || h.First < 0:
			return fmt.Errorf("host %s: seen last before it was seen first, or before 1970", h.Addr)
		}
	}
	return nil
}

// MarshalBinary is the canonical form that is signed. The layout, integers
// big-endian: version 1, pattern (two length bytes before it), disclose, made,
// until (nanoseconds since 1970), asked, number of hosts, and for each its
// address (a length byte before it), witnesses, first, last.
func (r *Report) MarshalBinary() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	var b cryptobyte.Builder
	b.AddUint8(reportVersion)
	addString(&b, r.Pattern)
	var disclose uint8
	if r.Disclose {
		disclose = 1
	}
	b.AddUint8(disclose)
	b.AddUint64(uint64(r.Made))
	b.AddUint64(uint64(r.Until))
	b.AddUint16(r.Asked)
	b.AddUint32(uint32(len(r.Hosts)))
	for _, h := range r.Hosts {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.Addr.AsSlice()) })
		b.AddUint16(h.Witnesses)
		b.AddUint64(uint64(h.First))
		b.AddUint64(uint64(h.Last))
	}
	return b.Bytes()
}

// UnmarshalBinary reads and checks what MarshalBinary wrote; any other bytes
// are an error.
func (r *Report) UnmarshalBinary(data []byte) error {
	if len(data) > MaxReport {
		return fmt.Errorf("report: %d bytes; at most %d", len(data), MaxReport)
	}
	s := cryptobyte.String(data)
	if err := r.readFrom(&s); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r *Report) readFrom(s *cryptobyte.String) error {
	var version, disclose uint8
	var made, until uint64
	var hosts uint32
	if !s.ReadUint8(&version) {
		return errTruncated
	}
	if version != reportVersion {
		return fmt.Errorf("version %d; this program supports version %d", version, reportVersion)
	}
	// An address, its length and what follows it take at least 23 bytes.
	if !readString(s, &r.Pattern, pattern.MaxLength) || !s.ReadUint8(&disclose) || disclose > 1 || !s.ReadUint64(&made) ||
		!s.ReadUint64(&until) || !s.ReadUint16(&r.Asked) || !s.ReadUint32(&hosts) || int(hosts) > len(*s)/23 {
		return errTruncated
	}
	r.Disclose, r.Made, r.Until = disclose == 1, flow.Time(made), flow.Time(until)
	r.Hosts = make([]ReportedHost, hosts)
	for i := range r.Hosts {
		h := &r.Hosts[i]
		var addr cryptobyte.String
		var first, last uint64
		if !s.ReadUint8LengthPrefixed(&addr) || !s.ReadUint16(&h.Witnesses) || !s.ReadUint64(&first) || !s.ReadUint64(&last) {
			return errTruncated
		}
		var ok bool
		if h.Addr, ok = netip.AddrFromSlice(addr); !ok {
			return errTruncated
		}
		h.First, h.Last = flow.Time(first), flow.Time(last)
	}
	if !s.Empty() {
		return fmt.Errorf("%d trailing bytes", len(*s))
	}
	return nil
}

// PatternID identifies a pattern: a digest of its canonical form. It does not
// hide a pattern that can be guessed.
type PatternID [sha256.Size]byte

// PatternIDOf is the ID of a canonical pattern.
func PatternIDOf(canonical string) PatternID {
	return sha256.Sum256([]byte("dragnet pattern 1\x00" + canonical))
}

// ReportID identifies a report of one signer: a digest of both.
type ReportID [sha256.Size]byte

// ReportIDOf is the ID of a marshalled report signed by a key, given by the
// key's identifier.
func ReportIDOf(signer [32]byte, report []byte) ReportID {
	return sha256.Sum256(append(append([]byte("dragnet report 1\x00"), signer[:]...), report...))
}

// Withdrawal withdraws a report: the body of its signed envelope.
type Withdrawal struct {
	Report ReportID `json:"report"`
	// Why is for the clearinghouse's operator.
	Why string `json:"why"`
}

// MaxWhy bounds a reason given in words, in bytes.
const MaxWhy = 1000

const withdrawalVersion = 1

// ErrWithdrawal means that bytes are not a withdrawal.
var ErrWithdrawal = errors.New("withdrawal: truncated or malformed")

// MarshalBinary is the canonical form: version 1, report, why (two length bytes
// before it).
func (w *Withdrawal) MarshalBinary() ([]byte, error) {
	if len(w.Why) > MaxWhy {
		return nil, fmt.Errorf("withdrawal: the reason is longer than %d bytes", MaxWhy)
	}
	var b cryptobyte.Builder
	b.AddUint8(withdrawalVersion)
	b.AddBytes(w.Report[:])
	addString(&b, w.Why)
	return b.Bytes()
}

// UnmarshalBinary reads what MarshalBinary wrote; any other bytes are an error.
func (w *Withdrawal) UnmarshalBinary(data []byte) error {
	s := cryptobyte.String(data)
	var version uint8
	if !s.ReadUint8(&version) || version != withdrawalVersion || !s.CopyBytes(w.Report[:]) || !readString(&s, &w.Why, MaxWhy) || !s.Empty() {
		return ErrWithdrawal
	}
	return nil
}
