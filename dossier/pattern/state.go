package pattern

import (
	"fmt"
	"strings"

	"dragnet/flow"
)

// StateFilter restricts a clue to flows of some outcomes: a set, of which any may
// be met. It is not hashed: the witness reads it, as it reads the direction and
// the mask.
type StateFilter uint16

// The filters; the other bits are those of InState. For Established and Failed see
// flow.Flow's methods of the same names.
const (
	AnyState    StateFilter = 0
	Established StateFilter = 1 << 0
	Failed      StateFilter = 1 << 1

	firstState = 2
)

// InState is the filter of one conn_state.
func InState(s flow.State) StateFilter { return 1 << (firstState + s) }

// Validate reports a filter that cannot be written in the language.
func (s StateFilter) Validate() error {
	if s&InState(flow.StateUnknown) != 0 {
		return fmt.Errorf("state filter %#x: a state that no source stated cannot be asked for", uint16(s))
	}
	return nil
}

// String is the language's list, empty for AnyState.
func (s StateFilter) String() string {
	var names []string
	if s&Established != 0 {
		names = append(names, "established")
	}
	if s&Failed != 0 {
		names = append(names, "failed")
	}
	for v := flow.S0; v <= flow.OTH; v++ {
		if s&InState(v) != 0 {
			names = append(names, v.String())
		}
	}
	return strings.Join(names, ",")
}

// Accepts reports whether f has one of the outcomes.
func (s StateFilter) Accepts(f *flow.Flow) bool {
	return s == AnyState || s&Established != 0 && f.Established() || s&Failed != 0 && f.Failed() || s&InState(f.State) != 0
}

func parseState(text string) (StateFilter, error) {
	switch strings.ToLower(text) {
	case "established":
		return Established, nil
	case "failed":
		return Failed, nil
	}
	s, ok := flow.ParseState([]byte(strings.ToUpper(text)))
	if !ok || s == flow.StateUnknown {
		return 0, fmt.Errorf("state %q: want established, failed, or a conn_state of Zeek such as S0 or SF", text)
	}
	return InState(s), nil
}
