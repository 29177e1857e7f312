package cloud

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
)

// record is one line of Zeek's conn.log as JSON.
type record struct {
	Time        json.Number `json:"ts"`
	Orig        string      `json:"id.orig_h"`
	OrigPort    uint16      `json:"id.orig_p"`
	Resp        string      `json:"id.resp_h"`
	RespPort    uint16      `json:"id.resp_p"`
	Proto       string      `json:"proto"`
	Duration    float64     `json:"duration"`
	State       string      `json:"conn_state"`
	OrigPackets uint64      `json:"orig_pkts"`
	OrigBytes   uint64      `json:"orig_ip_bytes"`
	RespPackets uint64      `json:"resp_pkts"`
	RespBytes   uint64      `json:"resp_ip_bytes"`
}

// WriteLog writes the flows as Zeek's conn.log, one JSON object a line.
func (r *Run) WriteLog(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	for i := range r.Flows {
		f := &r.Flows[i]
		if err := enc.Encode(record{
			json.Number(fmt.Sprintf("%d.%09d", f.Start/1e9, f.Start%1e9)), f.Orig.String(), f.OrigPort, f.Resp.String(), f.RespPort, f.Proto.String(), f.Duration.Seconds(), f.State.String(),
			f.OrigPkts, f.OrigIPBytes, f.RespPkts, f.RespIPBytes,
		}); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// WriteVMs writes the list that coresidence.ReadVMs reads.
func (r *Run) WriteVMs(w io.Writer) error {
	c := csv.NewWriter(w)
	records := [][]string{{"address", "tenant", "name"}}
	for _, vm := range r.VMs {
		records = append(records, []string{vm.Address.String(), vm.Tenant, vm.Name})
	}
	return c.WriteAll(records)
}
