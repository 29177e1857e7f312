package sigma_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"dragnet/dossier/pattern"
	"dragnet/publish/sigma"
)

func parse(t *testing.T, text string) *pattern.Pattern {
	t.Helper()
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func canonical(t *testing.T, text string) string {
	t.Helper()
	c, err := parse(t, text).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestThereAndBack writes patterns and reads them again.
func TestThereAndBack(t *testing.T) {
	for _, text := range []string{
		"in src=203.0.113.5 dport=1433", "out dst=198.51.100.7 proto=udp dport=69", "in dport=445 proto=tcp state=failed", "in src=203.0.113.0/24 dport=22 state=established",
		"in src=203.0.113.5 proto=tcp dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69", "in dport=445 and out dport=6667 and in dport=80", "in dport=1 then out dport=2",
		"in src=2001:db8::1 dport=22 then[90s] out dport=6667",
	} {
		var b bytes.Buffer
		if err := sigma.Write(&b, parse(t, text)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		back, err := sigma.Read(&b)
		if err != nil || canonical(t, back) != canonical(t, text) {
			t.Errorf("%s came back as %s, %v", text, back, err)
		}
	}
}

func TestWhatARuleSays(t *testing.T) {
	var b bytes.Buffer
	if err := sigma.Write(&b, parse(t, "in src=203.0.113.5 dport=1433 then[1h] out dst=198.51.100.7 dport=69")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"type: temporal_ordered", "group-by:\n    - host", "timespan: 1h", "host:\n      dragnet_clue_1: id.resp_h\n      dragnet_clue_2: id.orig_h", "id.orig_h: 203.0.113.5", "id.resp_p: 1433", "product: zeek", "service: conn"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestListsAreAlternatives(t *testing.T) {
	got, err := sigma.Read(strings.NewReader("name: a\ndetection:\n  selection:\n    id.resp_p: [22, 2222]\n    proto: tcp\n  condition: selection\n"))
	if err != nil || got != "(in dport=22 proto=tcp or in dport=2222 proto=tcp)" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	for _, text := range []string{"in dport=1 or in dport=2", "in dport=1 and (in dport=2 then out dport=3)"} {
		if err := sigma.Write(&bytes.Buffer{}, parse(t, text)); !errors.Is(err, sigma.ErrCannot) {
			t.Errorf("%s gave %v", text, err)
		}
	}
	const one = "title: x\nname: a\ndetection:\n  selection:\n    id.resp_p: 445\n  condition: "
	for name, text := range map[string]string{
		"another condition": one + "not selection\n", "nothing": "", "no detection": "title: x\n", "not YAML": "\t{", "two rules": one + "selection\n---\n" + strings.Replace(one, "name: a", "name: b", 1) + "selection\n",
		"another field": "detection:\n  selection:\n    user: root\n  condition: selection\n", "an injected value": "detection:\n  selection:\n    proto: 'tcp or in dport=1'\n  condition: selection\n",
		"another type": one + "selection\n---\ncorrelation:\n  type: event_count\n  rules: [a]\n  group-by: [id.resp_h]\n", "an unknown rule": one + "selection\n---\ncorrelation:\n  type: temporal\n  rules: [z]\n  group-by: [id.resp_h]\n",
	} {
		if got, err := sigma.Read(strings.NewReader(text)); !errors.Is(err, sigma.ErrCannot) {
			t.Errorf("%s gave %q, %v", name, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("title: x\nname: a\ndetection:\n  selection:\n    id.resp_p: 445\n  condition: selection\n---\ncorrelation:\n  type: temporal_ordered\n  rules: [a]\n  group-by: [id.resp_h]\n  timespan: 1h\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := sigma.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		p, err := pattern.Parse(got, pattern.NoFiles)
		if err != nil {
			t.Fatalf("%q is not a pattern: %v", got, err)
		}
		if err := sigma.Write(&bytes.Buffer{}, p); err != nil && !errors.Is(err, sigma.ErrCannot) {
			t.Logf("%q cannot be written: %v", got, err)
		}
	})
}
