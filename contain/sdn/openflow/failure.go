package openflow

import (
	"encoding/binary"
	"fmt"
)

// Failure is an error that a switch reported (section A.4.4).
type Failure struct{ Type, Code uint16 }

// kinds are the names of error types, and of the codes that a controller of rules
// meets.
var (
	kinds = map[uint16]string{
		0: "hello failed", 1: "bad request", 2: "bad action", 3: "bad instruction", 4: "bad match", 5: "flow_mod failed", 9: "table_mod failed",
		10: "queue operation failed", 11: "role request failed", 12: "meter_mod failed", 0xffff: "experimenter error",
	}
	codes = map[Failure]string{
		{1, 0}: "version not supported", {1, 1}: "message type not supported", {1, 2}: "multipart type not supported", {1, 3}: "experimenter not known",
		{1, 4}: "experimenter message not known", {1, 5}: "not permitted", {1, 6}: "wrong length", {1, 10}: "not permitted to a slave",
		{2, 0}: "action not known", {2, 4}: "no such port", {3, 0}: "instruction not known", {3, 1}: "instruction not supported",
		{5, 1}: "table full", {5, 2}: "no such table", {5, 3}: "overlaps", {5, 4}: "not permitted", {5, 5}: "timeout not supported",
		{12, 1}: "meter exists", {12, 2}: "meter not possible", {12, 3}: "no such meter", {12, 10}: "no room for meters", {12, 11}: "no room for bands",
	}
)

// ParseFailure reads the body of an error message.
func ParseFailure(body []byte) (Failure, error) {
	if len(body) < 4 {
		return Failure{}, fmt.Errorf("error message: %w", ErrTruncated)
	}
	return Failure{binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])}, nil
}

// Error names the type and the code.
func (f Failure) Error() string {
	kind, ok := kinds[f.Type]
	if !ok {
		kind = fmt.Sprintf("error type %d", f.Type)
	}
	code, ok := codes[f]
	if !ok {
		code = fmt.Sprintf("code %d", f.Code)
	}
	return "the switch refused: " + kind + ": " + code
}

// Unsupported reports whether a request was not understood, so that another way
// may be tried.
func (f Failure) Unsupported() bool {
	return f.Type == 1 && f.Code >= 1 && f.Code <= 4
}
