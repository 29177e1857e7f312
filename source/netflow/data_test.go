package netflow

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/sourcetest"
)

// datagramsOf reads the NetFlow and IPFIX datagrams of a capture.
func datagramsOf(t testing.TB, path string) []sourcetest.Datagram {
	t.Helper()
	return sourcetest.Datagrams(t, path, Is)
}

// decode hands all datagrams to d.
func decode(d *Decoder, all []sourcetest.Datagram) (records []biflow.Record) {
	for _, g := range all {
		_ = d.Decode(g.At, g.From, g.Data, func(r *biflow.Record) { records = append(records, *r) })
	}
	return records
}

// vendors are the single datagrams of many exporters, by name; templates come
// before the data that needs them.
func vendors(t testing.TB) (names []string, all [][]byte) {
	t.Helper()
	dir := testkit.Data(t, "netflow", "logstash")
	files, err := filepath.Glob(filepath.Join(dir, "*.dat"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(files, func(a, b string) int {
		return strings.Compare(strings.Replace(a, "tpl", "\x01", 1), strings.Replace(b, "tpl", "\x01", 1))
	})
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names, all = append(names, filepath.Base(file)), append(all, data)
	}
	return names, all
}

// captures are all files of exports that tests know.
func captures(t testing.TB) (files []string) {
	t.Helper()
	for _, pattern := range []string{"exports/*.pcap*", "netflow/pmacct/*.pcap", "ndpi/*netflow*.pcap*"} {
		found, err := filepath.Glob(filepath.Join(testkit.Data(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

func expected(err error) bool {
	for _, known := range []error{nil, ErrVersion, ErrTruncated, ErrLength, ErrTemplate, ErrBound} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
