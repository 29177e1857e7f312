package openflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Numbers of ports with a meaning (section A.2.1).
const (
	PortMax    uint32 = 0xffffff00 // the largest number of a real port
	PortIn     uint32 = 0xfffffff8 // the one that the packet came in by
	PortNormal uint32 = 0xfffffffa // as a switch without OpenFlow would
	PortAny    uint32 = 0xffffffff
)

// Match selects packets by their source, and if it is valid also by their
// destination, which is of the same family; and unless 0 by the port that they came
// in by. Others counts conditions that this package does not know.
type Match struct {
	Source, Destination netip.Prefix
	InPort              uint32
	Others              int
}

// String is the match in words.
func (m Match) String() string {
	text := m.Source.String()
	if m.Destination.IsValid() {
		text += " to " + m.Destination.String()
	}
	if m.InPort != 0 {
		text += fmt.Sprintf(" from port %d", m.InPort)
	}
	return text
}

// Action says what happens to the packets: first a meter, unless 0, then another
// Ethernet source, unless 0, then output to ports. None of these is a drop. Others
// counts what this package does not know.
type Action struct {
	Meter       uint32
	EtherSource [6]byte
	Ports       []uint32
	Others      int
}

// Equal compares.
func (a Action) Equal(b Action) bool {
	return a.Meter == b.Meter && a.EtherSource == b.EtherSource && a.Others == b.Others && slices.Equal(a.Ports, b.Ports)
}

// String is the action in words.
func (a Action) String() string {
	text := ""
	if a.Meter != 0 {
		text = fmt.Sprintf("meter %d, ", a.Meter)
	}
	if a.Others > 0 {
		text += fmt.Sprintf("%d unknown actions, ", a.Others)
	}
	if len(a.Ports) == 0 {
		return text + "drop"
	}
	for i, p := range a.Ports {
		if i > 0 {
			text += ", "
		}
		switch p {
		case PortNormal:
			text += "output normally"
		case PortIn:
			text += "output to where it came from"
		default:
			text += fmt.Sprintf("output to port %d", p)
		}
	}
	return text
}

// Rule is one entry of a flow table.
type Rule struct {
	Table    uint8
	Priority uint16
	Cookie   uint64
	// Hard is the number of seconds after which the switch forgets the rule; 0
	// is never.
	Hard   uint16
	Match  Match
	Action Action
}

// RuleStats is a rule as a switch reports it.
type RuleStats struct {
	Rule
	Age            time.Duration
	Packets, Bytes uint64
}

// Left is how long the rule stays; 0 means for ever.
func (s *RuleStats) Left() time.Duration {
	if s.Hard == 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(s.Hard)*time.Second-s.Age)
}

const (
	commandAdd    = 0
	commandDelete = 3
	commandStrict = 4
	allTables     = 0xff
	noBuffer      = 0xffffffff
)

// AddRule is the body of a flow_mod that adds r, or replaces the one with the
// same match and priority (section A.3.4.1).
func AddRule(r Rule) []byte {
	b := flowMod(r.Cookie, 0, r.Table, commandAdd, r.Hard, r.Priority)
	return r.Action.append(r.Match.append(b))
}

// DeleteRule deletes the rule with the match and priority of r, if its cookie is
// that of r.
func DeleteRule(r Rule) []byte {
	return r.Match.append(flowMod(r.Cookie, ^uint64(0), r.Table, commandStrict, 0, r.Priority))
}

// DeleteRules deletes every rule whose cookie agrees with cookie under mask.
func DeleteRules(cookie, mask uint64) []byte {
	return Match{}.append(flowMod(cookie, mask, allTables, commandDelete, 0, 0))
}

func flowMod(cookie, mask uint64, table, command uint8, hard, priority uint16) []byte {
	b := binary.BigEndian.AppendUint64(nil, cookie)
	b = binary.BigEndian.AppendUint64(b, mask)
	b = append(b, table, command, 0, 0) // no idle timeout
	b = binary.BigEndian.AppendUint16(b, hard)
	b = binary.BigEndian.AppendUint16(b, priority)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = binary.BigEndian.AppendUint32(b, PortAny) // any group
	return append(b, 0, 0, 0, 0)                  // no flags
}

// StatsRequest asks for the rules of all tables whose cookie agrees with cookie
// under mask (section A.3.5.2).
func StatsRequest(cookie, mask uint64) []byte {
	b := []byte{allTables, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, mask)
	return Match{}.append(b)
}

// ParseRules reads the rules of one flow stats reply.
func ParseRules(reply []byte) (all []RuleStats, err error) {
	const fixed = 48
	for b := reply; len(b) > 0; {
		if len(b) < fixed {
			return all, fmt.Errorf("rule %d: %w", len(all), ErrTruncated)
		}
		length := int(binary.BigEndian.Uint16(b))
		if length < fixed || length > len(b) {
			return all, fmt.Errorf("rule %d: %w %d", len(all), ErrLength, length)
		}
		s := RuleStats{
			Rule:    Rule{Table: b[2], Priority: binary.BigEndian.Uint16(b[12:]), Hard: binary.BigEndian.Uint16(b[16:]), Cookie: binary.BigEndian.Uint64(b[24:])},
			Age:     time.Duration(binary.BigEndian.Uint32(b[4:]))*time.Second + time.Duration(binary.BigEndian.Uint32(b[8:]))%time.Second,
			Packets: binary.BigEndian.Uint64(b[32:]), Bytes: binary.BigEndian.Uint64(b[40:]),
		}
		rest := b[fixed:length]
		var n int
		if s.Match, n, err = parseMatch(rest); err != nil {
			return all, fmt.Errorf("rule %d: %w", len(all), err)
		}
		if s.Action, err = parseInstructions(rest[n:]); err != nil {
			return all, fmt.Errorf("rule %d: %w", len(all), err)
		}
		all = append(all, s)
		b = b[length:]
	}
	return all, nil
}
