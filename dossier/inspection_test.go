package dossier

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func FuzzOpenInspection(f *testing.F) {
	i := Inspection{Bytes: 7}
	i.Add(&Sighting{Signature: "trap-tcp-80-1a2b3c4d", Orig: netip.MustParseAddrPort("192.0.2.1:7"), Resp: netip.MustParseAddrPort("[2001:db8::1]:80"), Count: 3})
	whole, err := i.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":1,"sightings":[{"signature":"../x","orig":"192.0.2.1:7","resp":"192.0.2.2:7","count":1}]}`))
	f.Add([]byte(`{"version":1,"sightings":[{"signature":"x","orig":"[fe80::1%eth0]:7","resp":"192.0.2.2:7","count":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := OpenInspection(b)
		if err != nil {
			return
		}
		for _, s := range i.Sightings {
			if !validName(s.Signature) || s.Count == 0 || !s.Sender().IsValid() || s.Sender().Addr().Zone() != "" {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func FuzzOpenSignatureSet(f *testing.F) {
	file, err := EncodeSignature(&Signature{Name: "x", Exact: []Exact{{Bytes: []byte("copy")}}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := json.Marshal(SignatureSet{Version: SignatureSetVersion, Signatures: []json.RawMessage{file}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _, err := OpenSignatureSet(b)
		for _, s := range all {
			if s.Check() != nil || err != nil {
				t.Fatalf("%s, %v", s.Name, err)
			}
		}
	})
}
