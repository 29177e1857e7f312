package vpcflow

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/lines"
	"dragnet/source/sourcetest"
)

// Lines as the User Guide shows them.
const (
	versions   = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status tcp-flags type pkt-srcaddr pkt-dstaddr flow-direction"
	request    = "5 123456789010 eni-1 198.51.100.9 10.0.0.2 43416 22 6 4 336 1795600000 1795600060 ACCEPT OK 3 IPv4 198.51.100.9 10.0.0.2 ingress"
	response   = "5 123456789010 eni-1 10.0.0.2 198.51.100.9 22 43416 6 3 300 1795600000 1795600060 ACCEPT OK 19 IPv4 10.0.0.2 198.51.100.9 egress"
	refused    = "5 123456789010 eni-1 198.51.100.9 10.0.0.2 43417 3389 6 1 40 1795600001 1795600060 REJECT OK 2 IPv4 198.51.100.9 10.0.0.2 ingress"
	nat        = "5 123456789010 eni-2 10.0.1.5 10.0.9.9 50000 443 6 9 900 1795600001 1795600060 ACCEPT OK 2 IPv4 10.0.1.5 203.0.113.7 -"
	twice      = "5 123456789010 eni-9 198.51.100.9 10.0.0.2 43416 22 6 4 336 1795600000 1795600060 ACCEPT OK 3 IPv4 198.51.100.9 10.0.0.2 egress"
	none       = "5 123456789010 eni-1 - - - - - - - 1795600000 1795600060 - NODATA - - - - -"
	skipped    = "5 123456789010 eni-1 - - - - - - - 1795600000 1795600060 - SKIPDATA - - - - -"
	old        = "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK"
	oldRefused = "2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK"
)

func read(t testing.TB, text string) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	r := lines.NewReader(strings.NewReader(text), "vpc.log", &Format)
	return sourcetest.ReadAll(t, r), r.Coverage()
}

func TestText(t *testing.T) {
	flows, cov := read(t, strings.Join([]string{versions, request, response, refused, nat, twice, none, skipped, ""}, "\n"))
	if len(flows) != 3 || cov.Skipped != 1 || cov.Problems[0].String() != "vpc.log:8: "+errSkipped.Error() {
		t.Fatalf("%+v, %+v", flows, cov)
	}
	by := map[uint16]flow.Flow{}
	for _, f := range flows {
		by[f.OrigPort] = f
	}
	f := by[43416]
	if f.Orig.String() != "198.51.100.9" || f.RespPort != 22 || f.State != flow.SF || f.OrigPkts != 4 || f.RespPkts != 3 || f.OrigIPBytes != 336 || f.Start != 1795600000e9 || f.Duration != 60e9 {
		t.Errorf("%+v", f)
	}
	if by[43417].State != flow.S0 || by[50000].Resp.String() != "203.0.113.7" {
		t.Errorf("%+v, %+v", by[43417], by[50000])
	}
}

// TestWithoutNames reads lines as CloudWatch Logs exports them, without a line
// that names the columns; there are no flags then.
func TestWithoutNames(t *testing.T) {
	flows, cov := read(t, old+"\n"+oldRefused+"\n"+versions+"\n"+request+"\n"+old+"\n")
	if len(flows) != 3 || cov.Skipped != 1 || flows[0].State != flow.StateUnknown || flows[1].State != flow.S0 {
		t.Errorf("%+v, %+v", flows, cov)
	}
}

func TestOnlyFlowLogsAreTaken(t *testing.T) {
	for text, want := range map[string]bool{
		versions: true, versions + "\n" + request: true, old + "\n": true, "dstaddr srcaddr start": true, "": false,
		"srcaddr dstaddr": false, "2 a b": false, `{"srcaddr":"1","dstaddr":"2","start":1}`: false, request: false,
	} {
		if Format.Is([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestLinesThatCannotBeUsed(t *testing.T) {
	for want, line := range map[string]string{
		errColumns.Error():                     request + " more",
		`srcport "4341x" is not a number`:      strings.Replace(request, "43416", "4341x", 1),
		"protocol or port is out of range":     strings.Replace(request, "43416", "70000", 1),
		`pkt-srcaddr "here" is not an address`: strings.Replace(request, "IPv4 198.51.100.9", "IPv4 here", 1),
		errTime.Error():                        strings.Replace(request, "1795600000", "179560000000000", 1),
	} {
		flows, cov := read(t, versions+"\n"+line+"\n"+refused+"\n")
		if len(flows) != 1 || cov.Skipped != 1 || cov.Problems[0].Reason != want {
			t.Errorf("%d flows, %v, want %s", len(flows), cov.Problems, want)
		}
	}
}

// parquetRow has AWS's schema of what these tests use.
type parquetRow struct {
	Version   int32  `parquet:"version"`
	Account   string `parquet:"account_id,optional"`
	Interface string `parquet:"interface_id,optional"`
	Src       string `parquet:"srcaddr,optional"`
	Dst       string `parquet:"dstaddr,optional"`
	SrcPort   *int32 `parquet:"srcport,optional"`
	DstPort   *int32 `parquet:"dstport,optional"`
	Protocol  *int32 `parquet:"protocol,optional"`
	Packets   *int64 `parquet:"packets,optional"`
	Bytes     *int64 `parquet:"bytes,optional"`
	Start     int64  `parquet:"start"`
	End       int64  `parquet:"end"`
	Action    string `parquet:"action,optional"`
	Status    string `parquet:"log_status,optional"`
	Flags     *int32 `parquet:"tcp_flags,optional"`
	Type      string `parquet:"type,optional"`
	PktSrc    string `parquet:"pkt_srcaddr,optional"`
	PktDst    string `parquet:"pkt_dstaddr,optional"`
	Direction string `parquet:"flow_direction,optional"`
}

// asParquet writes lines with the columns of versions.
func asParquet(t testing.TB, options []parquet.WriterOption, text ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, options...)
	for _, line := range text {
		var row parquetRow
		v := reflect.ValueOf(&row).Elem()
		for i, s := range strings.Fields(line) {
			n, _ := strconv.ParseInt(s, 10, 64)
			switch f := v.Field(i); {
			case s == "-":
			case f.Kind() == reflect.String:
				f.SetString(s)
			case f.Kind() == reflect.Pointer:
				f.Set(reflect.New(f.Type().Elem()))
				f.Elem().SetInt(n)
			default:
				f.SetInt(n)
			}
		}
		if _, err := w.Write([]parquetRow{row}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ofParquet reads a file's bytes, through a file as users have.
func ofParquet(t *testing.T, b []byte) (all []biflow.Record, cov flow.Coverage, err error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "vpc.parquet")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = ReadParquet(f, "vpc.parquet", &cov, func(r *biflow.Record) error { all = append(all, *r); return nil })
	return all, cov, err
}

// TestParquetSaysTheSame: the same records as text and as Parquet, whatever the
// compression.
func TestParquetSaysTheSame(t *testing.T) {
	text := []string{request, response, refused, nat, twice, none, skipped}
	var want []biflow.Record
	l := layoutOf(versions)
	for _, line := range text {
		var r biflow.Record
		if ok, err := l.parse([]byte(line), &r); ok && err == nil {
			want = append(want, r)
		}
	}
	for name, options := range map[string][]parquet.WriterOption{
		"plain": nil, "snappy": {parquet.Compression(&parquet.Snappy)}, "gzip": {parquet.Compression(&parquet.Gzip)}, "zstd": {parquet.Compression(&parquet.Zstd)},
		"a page each": {parquet.PageBufferSize(16)},
	} {
		b := asParquet(t, options, text...)
		got, cov, err := ofParquet(t, b)
		if err != nil || !IsParquet(b) || !reflect.DeepEqual(got, want) || cov.Skipped != 1 || cov.Problems[0].Place != "vpc.parquet: row 7" {
			t.Errorf("%s: %+v, %+v, %v; want %+v", name, got, cov, err, want)
		}
	}
}

func TestParquetOfSomethingElse(t *testing.T) {
	var b bytes.Buffer
	if err := parquet.Write(&b, []struct{ A string }{{"x"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ofParquet(t, b.Bytes()); err == nil || !strings.Contains(err.Error(), "columns of an AWS VPC") {
		t.Error(err)
	}
	if _, _, err := ofParquet(t, []byte("PAR1 and no more")); err == nil {
		t.Error("a damaged file was read")
	}
}

// TestDamagedParquet changes bytes of a file one at a time: an error or other
// records, but an end.
func TestDamagedParquet(t *testing.T) {
	b := asParquet(t, []parquet.WriterOption{parquet.Compression(&parquet.Snappy)}, request, response, refused, nat)
	for i := 0; i < len(b); i += 5 {
		for _, change := range []byte{0xff, 0x80, 0x01} {
			damaged := bytes.Clone(b)
			damaged[i] ^= change
			var cov flow.Coverage
			_ = readParquet(bytes.NewReader(damaged), int64(len(damaged)), "f", &cov, func(r *biflow.Record) error {
				if !r.Orig.IsValid() || r.Duration < 0 {
					t.Fatalf("%+v", r)
				}
				return nil
			})
		}
	}
}

func FuzzText(f *testing.F) {
	for _, line := range []string{request, response, refused, nat, none, skipped} {
		f.Add(versions + "\n" + line)
	}
	f.Add(old)
	f.Fuzz(func(t *testing.T, text string) {
		flows, _ := read(t, text)
		for _, one := range flows {
			if !one.Orig.IsValid() || !one.Resp.IsValid() || one.Duration < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}

func FuzzParquet(f *testing.F) {
	f.Add(asParquet(f, nil, request, none, skipped))
	f.Add(asParquet(f, []parquet.WriterOption{parquet.Compression(&parquet.Zstd)}, request, response, refused))
	f.Fuzz(func(t *testing.T, b []byte) {
		var cov flow.Coverage
		_ = readParquet(bytes.NewReader(b), int64(len(b)), "f", &cov, func(r *biflow.Record) error {
			if !r.Orig.IsValid() || !r.Resp.IsValid() || r.Duration < 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	})
}
