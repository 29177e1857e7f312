package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"dragnet/flow"
)

const (
	nginxLine   = "dragnet 1795600000.250 0.250 192.0.2.7 40000 198.51.100.1 443 120 5000 200\n"
	vpcNames    = "srcaddr dstaddr srcport dstport protocol start end\n"
	vpcRequest  = "192.0.2.7 198.51.100.1 40001 443 6 1795600000 1795600060\n"
	vpcResponse = "198.51.100.1 192.0.2.7 443 40001 6 1795600000 1795600060\n"
	vpcOther    = "198.51.100.9 192.0.2.7 40003 443 6 1795600000 1795600060\n"
	hubbleLine  = `{"flow":{"time":"2026-11-22T10:00:00Z","verdict":"FORWARDED","IP":{"source":"192.0.2.7","destination":"198.51.100.1"},"l4":{"TCP":{"source_port":40002,"destination_port":443,"flags":{"SYN":true}}},"is_reply":false}}` + "\n"
	hubbleReply = `{"flow":{"time":"2026-11-22T10:00:00Z","verdict":"FORWARDED","IP":{"source":"198.51.100.1","destination":"192.0.2.7"},"l4":{"TCP":{"source_port":443,"destination_port":40002,"flags":{"SYN":true,"ACK":true}}},"is_reply":true}}` + "\n"
)

// nfdumpFile is a file of one record.
func nfdumpFile(finished bool) string {
	var flows []byte
	add := func(kind uint16, body []byte) {
		flows = binary.LittleEndian.AppendUint16(flows, kind)
		flows = binary.LittleEndian.AppendUint16(flows, uint16(4+len(body)))
		flows = append(flows, body...)
	}
	generic := make([]byte, 48)
	binary.LittleEndian.PutUint64(generic, 1795600000_000)
	binary.LittleEndian.PutUint64(generic[8:], 1795600001_000)
	binary.LittleEndian.PutUint16(generic[40:], 40004)
	binary.LittleEndian.PutUint16(generic[42:], 443)
	generic[44], generic[45] = 6, 2
	add(1, generic)
	add(2, []byte{7, 2, 0, 192, 1, 100, 51, 198})
	elements := flows
	flows = nil
	add(11, append([]byte{2, 0, 0, 0, 0, 0, 0, 0}, elements...))
	b := make([]byte, 40)
	copy(b, []byte{0x0c, 0xa5, 2, 0})
	if finished {
		b[36] = 1
	}
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(flows)))
	return string(append(append(b, 3, 0, 0, 0), flows...))
}

func vpcParquet(t *testing.T) string {
	t.Helper()
	type row struct {
		Src   string `parquet:"srcaddr"`
		Dst   string `parquet:"dstaddr"`
		Sport int32  `parquet:"srcport"`
		Dport int32  `parquet:"dstport"`
		Proto int32  `parquet:"protocol"`
		Start int64  `parquet:"start"`
		End   int64  `parquet:"end"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []row{{"192.0.2.7", "198.51.100.1", 40005, 443, 6, 1795600000, 1795600001}, {"198.51.100.1", "192.0.2.7", 443, 40005, 6, 1795600000, 1795600001}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// ports are the originators' ports of what is stored or read.
func ports(t *testing.T, l flow.Log) map[uint16]flow.Flow {
	t.Helper()
	all := map[uint16]flow.Flow{}
	if _, err := l.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		for _, f := range batch {
			if _, twice := all[f.OrigPort]; twice {
				t.Errorf("port %d comes twice", f.OrigPort)
			}
			all[f.OrigPort] = f
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryFormat reads and imports a file of each, once however often.
func TestEveryFormat(t *testing.T) {
	p := newPlace(t)
	files := []string{
		p.write("flows.log", nginxLine), p.write("vpc.log.gz", squeeze(t, vpcNames+vpcRequest+vpcResponse)), p.write("events.log", hubbleLine+hubbleReply),
		p.write("nfcapd.202611221000", nfdumpFile(true)), p.write("vpc.parquet", vpcParquet(t)),
	}
	l, err := Open(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	read := ports(t, l)
	if len(read) != 5 || read[40002].State != flow.S1 || read[40004].State != flow.S0 || read[40004].Resp.String() != "198.51.100.1" || read[40001].RespPort != 443 || read[40005].RespPort != 443 {
		t.Errorf("%+v", read)
	}
	for _, want := range []ImportStatus{New, Unchanged} {
		for _, done := range p.bring(files...) {
			if done.Status != want || want == New && done.Flows != 1 {
				t.Errorf("%+v, want %s", done, want)
			}
		}
	}
	s, err := OpenReader(context.Background(), p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := ports(t, s); len(got) != 5 {
		t.Errorf("%d flows are stored", len(got))
	}
}

// TestNamesOfColumnsLast: what a log said of its columns holds for what is added
// after a restart.
func TestNamesOfColumnsLast(t *testing.T) {
	p := newPlace(t)
	p.bring(p.write("vpc.log", vpcNames+vpcRequest+vpcResponse))
	done := p.bring(p.write("vpc.log", vpcNames+vpcRequest+vpcResponse+vpcOther))
	if done[0].Status != Grown || done[0].Flows != 1 || done[0].Skipped != 0 {
		t.Errorf("%+v", done)
	}
}

func TestFilesThatAreNotImported(t *testing.T) {
	p := newPlace(t)
	old := nfdumpFile(true)
	for name, c := range map[string]struct {
		text    string
		status  ImportStatus
		problem string
	}{
		"nfcapd.current": {nfdumpFile(false), Busy, "still writing it"},
		"nfcapd.old":     {old[:2] + "\x01" + old[3:], Refused, "convert it with"},
		"cut.parquet":    {vpcParquet(t)[:300], Refused, "cut short or damaged"},
	} {
		done := p.bring(p.write(name, c.text))
		if done[0].Status != c.status || !strings.Contains(done[0].Problem, c.problem) {
			t.Errorf("%s: %+v", name, done)
		}
	}
	// Finished, it is taken; others of its folder are read in spite of these.
	if done := p.bring(p.write("nfcapd.current", nfdumpFile(true))); done[0].Status != New || done[0].Flows != 1 {
		t.Errorf("%+v", done)
	}
	l, err := Open(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	if n, cov := count(t, l); n != 1 || cov.Skipped != 2 {
		t.Errorf("%d flows, %+v", n, cov)
	}
	_ = os.Remove(filepath.Join(p.logs, "nfcapd.current"))
}
