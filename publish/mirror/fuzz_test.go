package mirror

import (
	"encoding/json"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/wire/identity"
)

// FuzzManifest reads a forged list and a forged signature: neither may pass.
func FuzzManifest(f *testing.F) {
	key, err := identity.Generate()
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	files := []FileHash{{"a.txt", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, {"b/c.txt", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}
	root, err := rootOf(files)
	if err != nil {
		f.Fatal(err)
	}
	head := Head{Version: HeadVersion, Number: 1, Time: flow.FromTime(now), Until: flow.FromTime(now.Add(time.Hour)), Files: 2, Bytes: 3, Root: root}
	listed, err1 := json.Marshal(Manifest{head, files})
	sealed, err2 := signHead(key, &head)
	if err1 != nil || err2 != nil {
		f.Fatal(err1, err2)
	}
	if _, err := parseManifest(listed, &head); err != nil {
		f.Fatal(err)
	}
	f.Add(listed, sealed)
	f.Add([]byte(`{"head":{},"files":[{"path":"../../etc/passwd"}]}`), []byte{1})
	f.Fuzz(func(t *testing.T, listed, sealed []byte) {
		if h, err := OpenHead(sealed, key.Public(), now); err == nil && h != head {
			t.Fatalf("%+v was believed", h)
		}
		m, err := parseManifest(listed, &head)
		if err != nil {
			return
		}
		for i := range files {
			if m.Files[i] != files[i] && m.Files[i].SHA256 == files[i].SHA256 {
				t.Fatalf("file %+v was believed", m.Files[i])
			}
		}
	})
}
