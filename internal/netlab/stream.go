//go:build linux

package netlab

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// MeasureStream sends one stream of iperf3 to a server that runs it, and returns what
// arrived, in Gbit/s, and in Gbit per second of processor time at both ends together.
func (n *Node) MeasureStream(ctx context.Context, server string, span time.Duration) (rate, perWork float64, err error) {
	out, err := n.Command(ctx, "iperf3", "-J", "-t", fmt.Sprint(int(span.Seconds())), "-c", server).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	var r struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Processor struct {
				Here  float64 `json:"host_total"`
				There float64 `json:"remote_total"`
			} `json:"cpu_utilization_percent"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, 0, fmt.Errorf("iperf3: %w", err)
	}
	rate = r.End.Received.Rate / 1e9
	return rate, rate * 100 / (r.End.Processor.Here + r.End.Processor.There), nil
}
