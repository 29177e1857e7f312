package zeek

import (
	"testing"
	"time"

	"net/netip"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
)

const smallTSV = `#separator \x09
#set_separator	,
#empty_field	(empty)
#unset_field	-
#path	conn
#open	2026-11-22-10-00-00
#fields	_node_name	ts	uid	id.orig_h	id.orig_p	id.resp_h	id.resp_p	proto	service	duration	orig_bytes	resp_bytes	conn_state	local_orig	local_resp	missed_bytes	history	orig_pkts	orig_ip_bytes	resp_pkts	resp_ip_bytes	tunnel_parents	ip_proto
#types	string	time	string	addr	port	addr	port	enum	string	interval	count	count	string	bool	bool	count	string	count	count	count	count	set[string]	count
w1	1700000000.000001	CA	192.0.2.1	40000	198.51.100.2	22	tcp	ssh	3.150262	1250	1694	SF	F	T	7	ShADadFf	12	1882	14	2430	-	6
w1	1700000001.5	CB	192.0.2.1	40001	198.51.100.2	53	udp	-	-	-	-	S0	F	T	0	D	1	60	0	0	-	17
w1	1700000002.000000	CC	2001:db8::1	135	2001:db8::2	136	icmp	-	0.008000	48	0	OTH	T	F	0	-	2	144	0	0	-	58
w1	1700000003.000000	CD	192.0.2.1	8	198.51.100.2	0	icmp	-	1.000000	56	56	OTH	T	F	0	(empty)	1	84	1	84	CA,CB	1
w1	1700000004.000000	CE	192.0.2.1	0	198.51.100.2	0	unknown_transport	-	0.1	0	0	OTH	T	F	0	-	2	40	0	0	-	132
#close	2026-11-22-11-00-00
`

const smallJSON = `{"ts":1700000000.000001,"uid":"CA","id.orig_h":"192.0.2.1","id.orig_p":40000,"id.resp_h":"198.51.100.2","id.resp_p":22,"proto":"tcp","service":"ssh","duration":3.150262,"orig_bytes":1250,"resp_bytes":1694,"conn_state":"SF","local_orig":false,"local_resp":true,"missed_bytes":7,"history":"ShADadFf","orig_pkts":12,"orig_ip_bytes":1882,"resp_pkts":14,"resp_ip_bytes":2430,"ip_proto":6}
{"ts":"2023-11-14T22:13:21.5Z","id":{"orig_h":"192.0.2.1","orig_p":40001,"resp_h":"198.51.100.2","resp_p":53},"proto":"udp","conn_state":"S0","missed_bytes":0,"history":"D","orig_pkts":1,"orig_ip_bytes":60,"resp_pkts":0,"resp_ip_bytes":0,"ip_proto":17}
{"conn_state":"OTH","resp_ip_bytes":0,"resp_pkts":0,"orig_ip_bytes":144,"orig_pkts":2,"missed_bytes":0,"resp_bytes":0,"orig_bytes":48,"duration":8e-3,"proto":"icmp","id.resp_p":136,"id.resp_h":"2001:db8::2","id.orig_p":135,"id.orig_h":"2001:db8::1","ts":1700000002000}
{ "_path" : "conn" , "ts" : 1700000003 , "id.orig_h" : "192.0.2.\u0031" , "id.orig_p" : 8 , "id.resp_h" : "::ffff:198.51.100.2" , "id\u002eresp_p" : 0 , "proto" : "icmp" , "duration" : 1.0 , "orig_bytes" : 56 , "resp_bytes" : 56 , "conn_state" : "OTH" , "missed_bytes":0, "history" : "" , "orig_pkts" : 1 , "orig_ip_bytes" : 84 , "resp_pkts" : 1 , "resp_ip_bytes" : 84 , "tunnel_parents" : [ "CA" , "C\"B" ] , "x" : { "id.orig_p" : [ true , null , -1.5e+3 ] } }
{"ts":1700000004,"id.orig_h":"192.0.2.1","id.orig_p":0,"id.resp_h":"198.51.100.2","id.resp_p":0,"proto":"unknown_transport","duration":1E-1,"orig_bytes":0,"resp_bytes":0,"conn_state":"OTH","missed_bytes":0,"history":null,"orig_pkts":2,"orig_ip_bytes":40,"resp_pkts":0,"resp_ip_bytes":0,"ip_proto":132}
`

// smallFlows is what smallTSV and smallJSON say.
func smallFlows() []flow.Flow {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	const begin = flow.Time(1700000000) * flow.Time(time.Second)
	const second = flow.Time(time.Second)
	most := flow.Lasting | flow.Payload | flow.Counts
	return []flow.Flow{
		{
			Start: begin + 1000, Duration: 3150262 * time.Microsecond,
			Orig: a, OrigPort: 40000, Resp: b, RespPort: 22, Proto: flow.TCP, State: flow.SF, History: "ShADadFf",
			OrigBytes: 1250, RespBytes: 1694, MissedBytes: 7, OrigPkts: 12, OrigIPBytes: 1882, RespPkts: 14, RespIPBytes: 2430,
			Known: most | flow.History,
		},
		{
			Start: begin + second*3/2, Orig: a, OrigPort: 40001, Resp: b, RespPort: 53, Proto: flow.UDP, State: flow.S0,
			History: "D", OrigPkts: 1, OrigIPBytes: 60, Known: flow.Counts | flow.History,
		},
		{
			Start: begin + 2*second, Duration: 8 * time.Millisecond, Orig: a6, OrigPort: 135, Resp: b6, RespPort: 136,
			Proto: flow.ICMPv6, State: flow.OTH, OrigBytes: 48, OrigPkts: 2, OrigIPBytes: 144, Known: most,
		},
		{
			Start: begin + 3*second, Duration: time.Second, Orig: a, OrigPort: 8, Resp: b, RespPort: 0,
			Proto: flow.ICMP, State: flow.OTH, OrigBytes: 56, RespBytes: 56,
			OrigPkts: 1, OrigIPBytes: 84, RespPkts: 1, RespIPBytes: 84, Known: most | flow.History,
		},
		{
			Start: begin + 4*second, Duration: 100 * time.Millisecond, Orig: a, Resp: b, Proto: flow.SCTP, State: flow.OTH,
			OrigPkts: 2, OrigIPBytes: 40, Known: most,
		},
	}
}

func TestReadsBothForms(t *testing.T) {
	for name, log := range map[string]string{"TSV": smallTSV, "JSON": smallJSON, "TSV with CRLF": crlf(smallTSV), "JSON with CRLF": crlf(smallJSON)} {
		t.Run(name, func(t *testing.T) {
			flows, r := readAll(t, []byte(log), flow.AllColumns, chunkSize)
			if diff := cmp.Diff(smallFlows(), flows, sameFlow); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
			if c := r.Coverage(); c.Skipped != 0 || c.Flows != 5 {
				t.Errorf("coverage %+v", c)
			}
			agree(t, []byte(log), flow.AllColumns)
		})
	}
}

func TestReadsOnlyWantedColumns(t *testing.T) {
	groups := []flow.Columns{0, flow.Lasting, flow.Counts, flow.Payload, flow.History, flow.Lasting | flow.Payload}
	for _, log := range []string{smallTSV, smallJSON} {
		for _, cols := range groups {
			flows, _ := readAll(t, []byte(log), cols, chunkSize)
			want := smallFlows()
			for i := range want {
				project(&want[i], cols)
			}
			if diff := cmp.Diff(want, flows, sameFlow); diff != "" {
				t.Errorf("columns %b (-want +got):\n%s", cols, diff)
			}
		}
	}
}

func project(f *flow.Flow, cols flow.Columns) {
	f.Known &= cols
	if !cols.Has(flow.Lasting) {
		f.Duration = 0
	}
	if !cols.Has(flow.Counts) {
		f.OrigPkts, f.OrigIPBytes, f.RespPkts, f.RespIPBytes = 0, 0, 0, 0
	}
	if !cols.Has(flow.Payload) {
		f.OrigBytes, f.RespBytes, f.MissedBytes = 0, 0, 0
	}
	if !cols.Has(flow.History) {
		f.History = ""
	}
}

// TestHotPathDoesNotAllocate: a long log costs no more memory than a short one.
func TestHotPathDoesNotAllocate(t *testing.T) {
	for name, log := range map[string]string{"TSV": smallTSV, "JSON": jsonWithoutEscapes()} {
		c := chunk{data: []byte(log), head: newHeader(), line: 1}
		if name == "TSV" {
			s := newStream(nil)
			s.advanceLines(c.data)
			c.head, c.data = s.head, withoutHeader(c.data)
		}
		p, batch := newParser(flow.AllColumns), make([]flow.Flow, 16)
		if n := testing.AllocsPerRun(100, func() {
			p.startChunk(0, c)
			if p.fillBatch(batch) == 0 {
				t.Fatal("no flows")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a chunk", name, n)
		}
	}
}
