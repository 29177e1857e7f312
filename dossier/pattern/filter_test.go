package pattern

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"dragnet/flow"
)

func TestFilter(t *testing.T) {
	f := flow.Flow{
		Orig: netip.MustParseAddr("192.0.2.7"), Resp: netip.MustParseAddr("198.51.100.9"),
		OrigPort: 4000, RespPort: 22, Proto: flow.TCP, State: flow.REJ,
	}
	open := func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("80\n22 # ssh\n")), nil }
	for text, want := range map[string]bool{
		"":                   true,
		"src=192.0.2.0/24":   true,
		"dst=192.0.2.0/24":   false,
		"host=198.51.100.9":  true,
		"host=192.0.2.7":     true,
		"host=192.0.2.8":     false,
		"dport=22 proto=tcp": true,
		"dport=@ports":       true,
		"dport=23":           false,
		"sport=4000":         true,
		"state=failed":       true,
		"state=established":  false,
		"SRC=192.0.2.7 dst=198.51.100.9 sport=4000 dport=22 proto=6 state=failed": true,
	} {
		p, err := ParseFilter(text, open)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := p.Matches(&f); got != want {
			t.Errorf("%q fits: %v, want %v", text, got, want)
		}
	}
	for _, bad := range []string{"in", "src=", "src=1.2.3.4 src=1.2.3.5", "port=5", "dport=70000", "state=open", "(", "src=192.0.2.1/24"} {
		if _, err := ParseFilter(bad, NoFiles); err == nil {
			t.Errorf("%q was accepted", bad)
		} else if !strings.Contains(err.Error(), "column") {
			t.Errorf("%q: %v does not say where", bad, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("src=192.0.2.0/24 dport=22 proto=tcp state=failed")
	f.Add("host=2001:db8::/32")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseFilter(text, NoFiles); err == nil {
			p.Matches(&flow.Flow{})
		}
	})
}
