package openflow

import (
	"encoding/binary"
	"fmt"
)

// Meter limits what passes through it to Rate kbit/s and Burst kbit; 0 in Rate
// marks a meter of another form.
type Meter struct{ ID, Rate, Burst uint32 }

// Commands and flags of meters (section A.3.4.5): kbit/s, with a burst, and
// counted.
const (
	meterAdd    = 0
	meterModify = 1
	meterDelete = 2
	meterFlags  = 1 | 4 | 8
	bandDrop    = 1
	allMeters   = 0xffffffff
)

// AddMeter is the body of a meter_mod that adds m, ModifyMeter of one that
// changes it.
func AddMeter(m Meter) []byte { return meterMod(meterAdd, m) }

// ModifyMeter changes the meter with m's number.
func ModifyMeter(m Meter) []byte { return meterMod(meterModify, m) }

// DeleteMeter deletes a meter, and with it the rules that use it.
func DeleteMeter(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, meterDelete, 0, meterFlags}, id)
}

func meterMod(command byte, m Meter) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, command, 0, meterFlags}, m.ID)
	b = append(b, 0, bandDrop, 0, 16)
	b = binary.BigEndian.AppendUint32(b, m.Rate)
	b = binary.BigEndian.AppendUint32(b, m.Burst)
	return append(b, 0, 0, 0, 0)
}

// MetersRequest asks for the configuration of all meters.
func MetersRequest() []byte { return binary.BigEndian.AppendUint64(nil, allMeters<<32) }

// ParseMeters reads the meters of one reply.
func ParseMeters(reply []byte) (all []Meter, err error) {
	for b := reply; len(b) > 0; {
		if len(b) < 8 {
			return all, fmt.Errorf("meter %d: %w", len(all), ErrTruncated)
		}
		length := int(binary.BigEndian.Uint16(b))
		if length < 8 || length > len(b) {
			return all, fmt.Errorf("meter %d: %w %d", len(all), ErrLength, length)
		}
		m := Meter{ID: binary.BigEndian.Uint32(b[4:])}
		if kilobits := binary.BigEndian.Uint16(b[2:])&1 != 0; kilobits && length == 24 && binary.BigEndian.Uint16(b[8:]) == bandDrop {
			m.Rate, m.Burst = binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
		}
		all = append(all, m)
		b = b[length:]
	}
	return all, nil
}

// ParseMeterLimit reads from a meter features reply the largest number of a
// meter; 0 means that the switch has none.
func ParseMeterLimit(reply []byte) (uint32, error) {
	if len(reply) < 16 {
		return 0, fmt.Errorf("meter features: %w", ErrTruncated)
	}
	return binary.BigEndian.Uint32(reply), nil
}

// Port is a port of a switch.
type Port struct {
	Number uint32
	Name   string
	// Down says that its link has no carrier, or that an administrator closed it.
	Down bool
}

// ParsePorts reads the ports of one port description reply (section A.2.1).
func ParsePorts(reply []byte) (all []Port, err error) {
	const length = 64
	if len(reply)%length != 0 {
		return nil, fmt.Errorf("ports: %w", ErrTruncated)
	}
	for b := reply; len(b) > 0; b = b[length:] {
		name := b[16:32]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		config, state := binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[36:])
		all = append(all, Port{binary.BigEndian.Uint32(b), string(name), (config|state)&1 != 0})
	}
	return all, nil
}
