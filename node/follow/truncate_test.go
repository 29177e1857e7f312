package follow

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// eveFlow is a flow event of Suricata whose number is its packets'.
func eveFlow(n int) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-22T10:00:00.000000+0000","flow_id":%[1]d,"event_type":"flow","src_ip":"192.0.2.1","src_port":%[1]d,"dest_ip":"198.51.100.1","dest_port":22,"proto":"TCP",`+
		`"flow":{"pkts_toserver":%[1]d,"pkts_toclient":1,"start":"2026-11-22T10:00:00.000000+0000","end":"2026-11-22T10:00:01.000000+0000"},"tcp":{"tcp_flags_ts":"02","tcp_flags_tc":"14"}}`+"\n", n)
}

// TestALogTruncatedInTheMiddle rotates eve.json as logrotate's copytruncate does:
// the log is copied and emptied while its writer goes on, in the middle of a line.
// Only the lines so cut are lost.
func TestALogTruncatedInTheMiddle(t *testing.T) {
	dir, logs := filepath.Join(t.TempDir(), "data"), t.TempDir()
	path := filepath.Join(logs, "eve.json")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	write := func(text string) {
		if _, err := log.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	var want []int
	next := func(count int) {
		for range count {
			n := len(want) + 1
			want = append(want, n)
			write(eveFlow(n))
		}
	}
	s := start(t, dir, logs)
	cut := 30_000
	for turn := range 4 {
		next(300)
		if turn%2 == 1 { // what was written before is read or not
			within(t, "the lines so far", func() bool { return len(numbers(t, dir)) >= len(want) })
		}
		line := eveFlow(cut + turn)
		write(line[:len(line)/2])
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%d", path, turn), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := log.Truncate(0); err != nil {
			t.Fatal(err)
		}
		write(line[len(line)/2:])
		next(20)
	}
	within(t, "all lines", func() bool { return len(numbers(t, dir)) >= len(want) })
	stop(t, s)
	if got := numbers(t, dir); !slices.Equal(got, want) {
		t.Errorf("%d flows are stored, %d whole lines were logged; stored and not logged, or twice: %v; logged and not stored: %v",
			len(got), len(want), without(got, want), without(want, got))
	}
}

// without returns what a has more often than b.
func without(a, b []int) (left []int) {
	count := map[int]int{}
	for _, n := range b {
		count[n]++
	}
	for _, n := range a {
		if count[n]--; count[n] < 0 {
			left = append(left, n)
		}
	}
	return left
}
