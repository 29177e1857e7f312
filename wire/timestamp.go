package wire

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/flow"
)

// Timestamp is t as messages carry it.
func Timestamp(t flow.Time) *timestamppb.Timestamp { return timestamppb.New(t.Time()) }

// FlowTime reads what Timestamp wrote. A missing or invalid timestamp is an
// error.
func FlowTime(t *timestamppb.Timestamp) (flow.Time, error) {
	if err := t.CheckValid(); err != nil {
		return 0, fmt.Errorf("time: %w", err)
	}
	return flow.FromTime(t.AsTime()), nil
}

// FlowTimeOrZero is FlowTime for an optional timestamp: 0 if there is none.
func FlowTimeOrZero(t *timestamppb.Timestamp) (flow.Time, error) {
	if t == nil {
		return 0, nil
	}
	return FlowTime(t)
}
