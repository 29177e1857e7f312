package capture

import (
	"bytes"
	"io"
	"testing"

	"dragnet/packet"
)

// TestWriter: what is written is read back as it was.
func TestWriter(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, packet.LinkEthernet)
	if err != nil {
		t.Fatal(err)
	}
	all := []Record{{Number: 1, Time: 1_900_000_000_123_456_789, Link: packet.LinkEthernet, Data: []byte("one"), Wire: 3},
		{Number: 2, Time: 1_900_000_001_000_000_001, Link: packet.LinkEthernet, Data: []byte("two"), Wire: 1500}}
	for i := range all {
		if err := w.Write(&all[i]); err != nil {
			t.Fatal(err)
		}
	}
	if w.Write(&Record{Link: packet.LinkRaw}) == nil {
		t.Error("a packet of another link was written")
	}
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range all {
		got, err := r.Next()
		if err != nil || got.Number != want.Number || got.Time != want.Time || got.Link != want.Link || got.Wire != want.Wire || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}
