package main

import (
	"testing"
	"time"
)

func TestParseTimeTakesAges(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 5e8, time.UTC)
	for text, want := range map[string]string{
		"-24h": "2026-11-21T10:00:00Z", "-7d": "2026-11-15T10:00:00Z", "-90s": "2026-11-22T09:58:30Z",
		"2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T01:02:03Z": "2026-11-20T01:02:03Z",
	} {
		if got, err := parseTimeAt("--from", text, now); err != nil || got.String() != want {
			t.Errorf("%s is %v (%v), want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"24h", "-", "--1h", "-0s", "-400d", "-1y", "yesterday"} {
		if got, err := parseTimeAt("--from", bad, now); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}
