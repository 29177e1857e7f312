package akvorado

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// schema is what of RawFlow is read, by the names and numbers of Akvorado 2.0.
const schema = `syntax = "proto3";
message RawFlow {
  uint64 time_received = 1;
  bytes payload = 2;
  bytes source_address = 3;
  bool use_source_address = 4;
  uint32 decoder = 5;
  uint32 timestamp_source = 6;
  uint32 decapsulation_protocol = 7;
  uint64 rate_limit = 8;
}
`

// encode has protoc write a message.
func encode(t *testing.T, text string) []byte {
	t.Helper()
	protoc := testkit.Tool(t, "protoc")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "raw.proto"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(protoc, "--proto_path="+dir, "--encode=RawFlow", "raw.proto")
	cmd.Stdin = bytes.NewReader([]byte(text))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const mapped = `"\000\000\000\000\000\000\000\000\000\000\377\377\300\000\002\001"`

func TestMessages(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"whole":                     {`time_received: 1700000000 payload: "abc" source_address: ` + mapped + ` use_source_address: true decoder: 1 timestamp_source: 2 rate_limit: 9`, nil},
		"IPv4":                      {`time_received: 1700000000 payload: "abc" source_address: "\300\000\002\001" decoder: 1`, nil},
		"no address":                {`time_received: 1700000000 payload: "abc" decoder: 1`, ErrAddress},
		"address of 3 bytes":        {`time_received: 1700000000 payload: "abc" source_address: "abc" decoder: 1`, ErrAddress},
		"no time":                   {`payload: "abc" source_address: ` + mapped, ErrTime},
		"a time in nanoseconds":     {`time_received: 1700000000000000000 payload: "abc" source_address: ` + mapped, ErrTime},
		"no datagram":               {`time_received: 1700000000 source_address: ` + mapped, ErrSize},
		"a gob":                     {`time_received: 1700000000 payload: "abc" source_address: ` + mapped + ` decoder: 3`, ErrDecoder},
		"tunnelled in VXLAN":        {`time_received: 1700000000 payload: "abc" source_address: ` + mapped + ` decapsulation_protocol: 3`, ErrDecoder},
		"a decoder beyond 32 bits'": {`time_received: 1700000000 payload: "abc" source_address: ` + mapped + ` decoder: 4294967295`, ErrDecoder},
	} {
		d, err := Parse(encode(t, c.text))
		if err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && (d.From != netip.MustParseAddr("192.0.2.1") || string(d.Data) != "abc" || d.Received != 1_700_000_000_000_000_000 || d.Decoder != NetFlow) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	b := protowire.AppendVarint(protowire.AppendTag(nil, timeReceived, protowire.VarintType), 1_700_000_000)
	b = protowire.AppendBytes(protowire.AppendTag(b, payload, protowire.BytesType), []byte("abc"))
	f.Add(protowire.AppendBytes(protowire.AppendTag(b, sourceAddress, protowire.BytesType), []byte{192, 0, 2, 1}))
	f.Add(protowire.AppendTag(nil, 5, protowire.StartGroupType))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err == nil && (!d.From.IsValid() || d.From.Is4In6() || d.Received <= 0 || d.Received > flow.Time(latest)*1e9 || len(d.Data) == 0 || len(d.Data) > len(b)) {
			t.Fatalf("%+v", d)
		}
	})
}
