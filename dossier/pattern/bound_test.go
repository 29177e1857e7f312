package pattern

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
)

func TestBounds(t *testing.T) {
	f := flow.Flow{RespPort: 22, OrigIPBytes: 1500, RespIPBytes: 20_000_000, Duration: 90 * time.Second, State: flow.S3, Known: flow.Counts | flow.Lasting}
	for text, want := range map[string]bool{
		"bytes>=20M":                 true,
		"bytes<=20M":                 false,
		"sent>=1k sent<=2k":          true,
		"received>=1k received<=2k":  false,
		"received>=20M":              true,
		"duration>=1m duration<=2m":  true,
		"duration>=2m":               false,
		"duration<=10ms":             false,
		"state=S3":                   true,
		"state=s1,s3":                true,
		"state=S1":                   false,
		"state=failed,S3":            true,
		"state=S3 bytes>=1 peers>=2": true, // counts are not about one flow
	} {
		p, err := Parse("out dport=22 "+text, NoFiles)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.Clues[0].Matches(&f); got != want {
			t.Errorf("%s matches: %v, want %v", text, got, want)
		}
		// X is the responder of an "in" clue: what it sent is what came back.
		if in, _ := Parse("in dport=22 "+text, NoFiles); strings.HasPrefix(text, "sent") && in.Clues[0].Matches(&f) {
			t.Errorf("in %s matches what the other end sent", text)
		}
		if unknown := (&flow.Flow{RespPort: 22, State: flow.S3}); !strings.HasPrefix(text, "state") && p.Clues[0].Matches(unknown) {
			t.Errorf("%s matches a flow of unknown size", text)
		}
	}
	for text, want := range map[string]string{
		"dst=10.0.0.1,10.0.0.2 peers>=2": "peers counts different other hosts",
		"bytes>=123":                     "bytes 123: this travels in clear, so take a round number: 100 or 200",
		"bytes>=12M":                     "10M or 20M",
		"bytes>=0":                       "want at least 1",
		"duration>=3m":                   "2m or 5m",
		"duration>=30d":                  "want at most 7d",
		"duration>=1ns":                  "want at least 10ms",
		"sent>=500T":                     "want at most 50T",
		"bytes=10M":                      "write bytes>=NUMBER",
		"bytes>10M":                      `"bytes>10M": write bytes>=NUMBER`,
		"bytes >= 10M":                   "write bytes>=NUMBER or bytes<=NUMBER without blanks",
		"peers<=5":                       "peers: a count can only be at least a number: peers>=N",
		"bytes>=1M bytes<=1k":            "nothing is at least 1M and at most 1k",
		"bytes>=1M bytes>=1k":            "bytes> is given twice",
		"state=s9":                       "a conn_state of Zeek",
		"state=-":                        "a conn_state of Zeek",
		"bytes>=lots":                    "want a number such as 500, 20k",
		"flows>=99999999999":             "want a number such as",
		"bytes><=5":                      `unknown field "bytes><"`,
	} {
		if _, err := Parse("out dport=22 "+text, NoFiles); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("out bytes>=1M state=SF", NoFiles); err == nil {
		t.Error("a clue was accepted of which nothing is hashed")
	}
}

// TestStepsAreWrittenAndRead: each step's text reads back as that step, they ascend,
// and the canonical form of all is itself.
func TestStepsAreWrittenAndRead(t *testing.T) {
	for m := Bytes; m < numMeasures; m++ {
		last := uint64(0)
		for s := BoundStep(1); s <= m.Steps(); s++ {
			if v := m.Value(s); v <= last {
				t.Fatalf("%s: step %d is %d, not above %d", m, s, v, last)
			} else {
				last = v
			}
			text := "in dport=1 " + m.String() + ">=" + m.format(s)
			p, err := Parse(text, NoFiles)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Bounds{{Measure: m, Least: s}}, p.Clues[0].Bounds); diff != "" {
				t.Errorf("%s:\n%s", text, diff)
			}
			if got, _ := p.Canonical(); got != text {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
}
