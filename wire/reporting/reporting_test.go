package reporting_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"dragnet/dossier"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
)

func example() dossier.Change {
	return dossier.Change{Version: 1, Sequence: 7, Time: 100, Kind: dossier.Listed, Entry: dossier.Entry{
		Version: 1, Host: netip.MustParseAddr("2001:db8::1"), Group: "g", First: 1, Last: 2, Sources: 3, Witnesses: 5, Confidence: 90, Listed: 4, Until: 9,
	}}
}

// TestTranslation: nothing is lost between the dossier and the wire.
func TestTranslation(t *testing.T) {
	addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	c := example()
	back, err := reporting.ChangeFromWire(reporting.ChangeToWire(&c))
	if diff := cmp.Diff(c, back, addrs); err != nil || diff != "" {
		t.Error(err, diff)
	}
	g := dossier.Group{Version: 1, ID: "g", Patterns: []string{"in dport=1"}, Undisclosed: 2, Hosts: 3, First: 4, Last: 5, Sources: 6, Confidence: 7, Updated: 8}
	sameGroup, err := reporting.GroupFromWire(reporting.GroupToWire(&g))
	if diff := cmp.Diff(g, sameGroup); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestWireNamesNobody: no message that the clearinghouse publishes has a field
// that could hold who reported or saw something.
func TestWireNamesNobody(t *testing.T) {
	for _, m := range []proto.Message{&reportingv1.Entry{}, &reportingv1.Group{}, &reportingv1.Change{}} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			name := string(fields.Get(i).Name())
			for _, word := range []string{"signer", "member", "class", "detective", "reporter", "organisation", "key", "names"} {
				if strings.Contains(name, word) {
					t.Errorf("%T has a field %s", m, name)
				}
			}
		}
	}
}

func TestDial(t *testing.T) {
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	keys := []identity.Public{k.Public()}
	for _, bad := range []string{"http://203.0.113.1", "203.0.113.1:8443", "https://", "https://a/?b", ""} {
		if _, err := reporting.Dial(bad, keys, nil); err == nil {
			t.Errorf("%q was dialled", bad)
		}
	}
	if _, err := reporting.Dial("https://203.0.113.1", nil, nil); err == nil {
		t.Error("dialled without a key to expect")
	}
	c, err := reporting.Dial("https://203.0.113.1", keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.SubmitReports(t.Context(), &dossier.Report{}); err == nil || !strings.Contains(err.Error(), "private key is needed") {
		t.Errorf("reported without a key: %v", err)
	}
}

// FuzzPages: what a clearinghouse sends is translated or refused.
func FuzzPages(f *testing.F) {
	c := example()
	for _, m := range []proto.Message{
		&reportingv1.ListChangesResponse{Changes: []*reportingv1.Change{reporting.ChangeToWire(&c), {}}},
		&reportingv1.ListEntriesResponse{Entries: []*reportingv1.Entry{reporting.EntryToWire(&c.Entry), {}}, NextCursor: "x"},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var changes reportingv1.ListChangesResponse
		if proto.Unmarshal(data, &changes) == nil {
			for _, m := range changes.Changes {
				if c, err := reporting.ChangeFromWire(m); err == nil && !c.Entry.Host.IsValid() {
					t.Fatalf("%v became %+v", m, c)
				}
			}
		}
		var groups reportingv1.ListGroupsResponse
		if proto.Unmarshal(data, &groups) == nil {
			for _, m := range groups.Groups {
				reporting.GroupFromWire(m)
			}
		}
	})
}
