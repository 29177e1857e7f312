package centre

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/source/sensor"
	agentv1 "dragnet/wire/agent/v1"
)

// offeredTo are the names of the signatures that a sensor gets.
func (k *kept) offeredTo(t *testing.T) (names []string) {
	t.Helper()
	d, err := k.registry.Document(t.Context(), "sensor", "tap-1")
	if err != nil || d == nil || d.Format != sensor.SignaturesFormat {
		t.Fatalf("%v, %v", d, err)
	}
	all, _, err := dossier.OpenSignatureSet(d.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOnlyTestedSignaturesAreOffered: one that matches clean traffic is not, nor
// any if there is no clean traffic to test with.
func TestOnlyTestedSignaturesAreOffered(t *testing.T) {
	// Nor one of a few bytes, which would match much that is not in the clean traffic.
	clean := writeFile(t, filepath.Join(t.TempDir(), "clean"), []byte("GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\r\n"))
	for _, paths := range [][]string{{clean}, {}} {
		k := open(t, func(c *Configuration) { c.Clean = paths })
		for _, p := range []string{"GET /index.html HTTP/1.1\r\n", "an attack of only one sender", "\x00"} {
			if err := k.send("trap-1", report([]byte(p), 80)); err != nil {
				t.Fatal(err)
			}
		}
		if all := k.signatures(t); len(all) != 3 {
			t.Fatalf("%d signatures learnt", len(all))
		}
		if got := k.offeredTo(t); len(got) != len(paths) {
			t.Errorf("with clean traffic %v: %v are offered", paths, got)
		}
	}
}

// TestSharedSignatures: those that a trusted key sealed and that match none of our
// clean traffic are offered, under the name of that key, until they are removed.
func TestSharedSignatures(t *testing.T) {
	dir, shared := t.TempDir(), t.TempDir()
	clean := writeFile(t, filepath.Join(dir, "clean"), []byte("GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\r\n"))
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key := writeFile(t, filepath.Join(dir, "key.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	k := open(t, func(c *Configuration) { c.Clean, c.Shared, c.Trust = []string{clean}, []string{shared}, []string{key} })
	share := func(name, payload string, key ed25519.PrivateKey, change func(string) string) {
		file, err := dossier.EncodeSignature(&dossier.Signature{Name: name, Exact: []dossier.Exact{{Bytes: []byte(payload)}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			file = []byte(change(string(file)))
		}
		writeFile(t, filepath.Join(shared, name+".signature.json"), file)
	}
	share("good", "an attack of only one sender", private, nil)
	share("common", "Host: www.example.org", private, nil)
	share("stranger", "whatever", stranger, nil)
	share("unsealed", "whatever", nil, nil)
	share("changed", "whatever", private, func(s string) string { return strings.Replace(s, `"changed"`, `"altered"`, 1) })
	writeFile(t, filepath.Join(shared, "half.signature.json"), []byte(`{"format":"dragnet-sig`))
	writeFile(t, filepath.Join(shared, "README"), []byte("not a signature"))
	all := k.signatures(t)
	if len(all) != 2 || !all[0].IsShared() {
		t.Errorf("%+v", all)
	}
	if got := k.offeredTo(t); len(got) != 1 || !strings.HasSuffix(got[0], "-good") || !strings.HasPrefix(got[0], "shared-") {
		t.Errorf("%v are offered", got)
	}
	if err := k.send("trap-1", report([]byte("our own trap captured this"), 80)); err != nil {
		t.Fatal(err)
	}
	if k.signatures(t); len(k.offeredTo(t)) != 2 {
		t.Errorf("%v are offered beside our own", k.offeredTo(t))
	}
	if err := os.Remove(filepath.Join(shared, "good.signature.json")); err != nil {
		t.Fatal(err)
	}
	if k.signatures(t); len(k.offeredTo(t)) != 1 {
		t.Errorf("%v are offered after it was taken back", k.offeredTo(t))
	}
}

// sight sends what a sensor saw.
func (k *kept) sight(t *testing.T, from string, seen *dossier.Inspection) error {
	t.Helper()
	body, err := seen.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return k.sendBody(t, from, body)
}

func (k *kept) sendBody(t *testing.T, from string, body []byte) error {
	t.Helper()
	return k.db.Update(t.Context(), func(tx *state.Tx) error {
		return k.takeInspection(t.Context(), tx, agents.From{Name: from, Role: "sensor"},
			&agentv1.Item{Kind: sensor.InspectionKind, Format: sensor.InspectionFormat, Time: timestamppb.Now(), Body: body})
	})
}

func sighting(host, to string, confirmed bool) dossier.Sighting {
	return dossier.Sighting{Time: noon, Signature: "trap-tcp-80-1a2b3c4d", Orig: netip.AddrPortFrom(netip.MustParseAddr(host), 40000), Resp: netip.MustParseAddrPort(to), Proto: flow.TCP, Confirmed: confirmed, Count: 2}
}

// TestSightingsBecomeFindings about who sent the payload, one a day, of which
// nothing is proposed; what may be forged is another.
func TestSightingsBecomeFindings(t *testing.T) {
	k := open(t, nil)
	server := sighting("192.0.2.9", "203.0.113.7:445", true)
	server.FromResp = true
	for n := range 30 {
		seen := &dossier.Inspection{Sightings: []dossier.Sighting{
			sighting("203.0.113.5", fmt.Sprintf("192.0.2.%d:80", n), true), sighting("203.0.113.5", "192.0.2.200:80", false), server}}
		if err := k.sight(t, "tap-1", seen); err != nil {
			t.Fatal(err)
		}
		if n%10 == 0 {
			k.signatures(t) // findings are made in several turns
		}
	}
	k.signatures(t)
	got := map[string]string{}
	for _, f := range k.found {
		got[f.Host.String()+" "+f.Kind] = fmt.Sprint(f.Evidence.Counts["matches"], " ", len(f.Evidence.Flows))
		if f.Detector != "signature" || !strings.Contains(f.Summary, "tap-1") {
			t.Errorf("%+v", f)
		}
	}
	want := map[string]string{"203.0.113.5 payload-match": "60 20", "203.0.113.5 payload-match-unconfirmed": "60 1", "203.0.113.7 payload-match": "60 1"}
	if fmt.Sprint(got) != fmt.Sprint(want) || k.proposed {
		t.Errorf("%v, want %v; a block is proposed: %v", got, want, k.proposed)
	}
}

// TestHostileSensor: what cannot be is refused, and a flood is cut off.
func TestHostileSensor(t *testing.T) {
	k := open(t, nil)
	for _, body := range []string{`{`, `{"version":2}`, `{"version":1,"sightings":[{}]}`, `{"version":1,"sightings":[{"signature":"x\n","orig":"192.0.2.1:1","resp":"192.0.2.1:1","count":1}]}`} {
		if err := k.sendBody(t, "tap-1", []byte(body)); err == nil {
			t.Errorf("%s is taken", body)
		}
	}
	refused := 0
	for n := range 60 {
		seen := &dossier.Inspection{}
		for m := range dossier.MaxSightings {
			seen.Sightings = append(seen.Sightings, sighting(netip.AddrFrom4([4]byte{10, byte(n), byte(m >> 8), byte(m)}).String(), "192.0.2.1:80", true))
		}
		if k.sight(t, "tap-1", seen) != nil {
			refused++
		}
	}
	k.signatures(t)
	if len(k.found) > sightingsPerDay || refused == 0 {
		t.Errorf("%d findings; %d of 60 inspections refused", len(k.found), refused)
	}
	if err := k.sight(t, "tap-2", &dossier.Inspection{Sightings: []dossier.Sighting{sighting("203.0.113.5", "192.0.2.1:80", true)}}); err != nil {
		t.Errorf("another sensor: %v", err)
	}
}

// TestRoomForFamilies: if there is no room for all signatures, those of families
// are offered before exact ones.
func TestRoomForFamilies(t *testing.T) {
	k := open(t, nil)
	var all []learned
	for n := range 12 {
		x := &dossier.Signature{Name: fmt.Sprintf("trap-tcp-80-%08x", n), Learning: dossier.Learning{Method: "exact"}, Exact: []dossier.Exact{{Bytes: make([]byte, 500<<10)}}}
		if n == 11 {
			x.Learning.Method = "gibbs"
		}
		all = append(all, learned{signature: x})
	}
	if err := k.keepSignatures(t.Context(), "trap-tcp-80", all); err != nil {
		t.Fatal(err)
	}
	k.signatures(t)
	got := k.offeredTo(t)
	if len(got) < 4 || len(got) > 6 || got[0] != "trap-tcp-80-0000000b" {
		t.Errorf("%v are offered", got)
	}
}
