// Package incident is the recording behind "dragnet demo": four organisations,
// each with a capture of the traffic at its edge, while an attacker takes over
// hosts of three of them.
//
// The traffic is that of real programs (curl, nginx, dnsmasq, OpenSSH, ping,
// socat) in network namespaces; lab/incident/record recorded it, as described
// in README.md. The code that the infected hosts fetch is inert text.
package incident

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed testdata
var recording embed.FS

// TruthFile is the name of the file with the Truth, as JSON.
const TruthFile = "truth.json"

// CaptureFile is the name of an organisation's capture: a gzip-compressed
// pcap, its packets cut after their headers and first bytes.
func CaptureFile(organisation string) string { return organisation + ".pcap.gz" }

// Captures holds the recording: TruthFile, and a CaptureFile per organisation.
func Captures() fs.FS {
	files, err := fs.Sub(recording, "testdata")
	if err != nil {
		panic(err) // only for an invalid path, and this one is constant
	}
	return files
}

// ReadTruth reads the Truth of a recording, Captures or a directory that the
// recorder wrote.
func ReadTruth(files fs.FS) (Truth, error) {
	var truth Truth
	text, err := fs.ReadFile(files, TruthFile)
	if err != nil {
		return truth, err
	}
	if err := json.Unmarshal(text, &truth); err != nil {
		return truth, fmt.Errorf("%s: %w", TruthFile, err)
	}
	return truth, nil
}

// Unpack writes the embedded captures into dir, decompressed, and returns
// their paths by organisation.
func Unpack(dir string) (paths map[string]string, err error) {
	return unpackInto(Captures(), dir)
}

func unpackInto(files fs.FS, dir string) (map[string]string, error) {
	truth, err := ReadTruth(files)
	if err != nil {
		return nil, err
	}
	paths := make(map[string]string)
	for _, org := range truth.Organisations {
		packed, err := fs.ReadFile(files, CaptureFile(org.Name))
		if err != nil {
			return nil, err
		}
		capture, err := decompress(packed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", CaptureFile(org.Name), err)
		}
		path := filepath.Join(dir, org.Name+".pcap")
		if err := os.WriteFile(path, capture, 0o644); err != nil {
			return nil, err
		}
		paths[org.Name] = path
	}
	return paths, nil
}

func decompress(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
