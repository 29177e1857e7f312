// Package witnesses opens the sources of a hunt: logs, captures and stores on this
// machine, and nodes, whose operators may ask the node's log over its API.
package witnesses

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"dragnet/internal/unpack"
	"dragnet/node/api"
	"dragnet/node/hunt"
	"dragnet/node/ingest"
)

var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

var unnamable = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// Open reads arguments of the form [NAME=]PATH, where PATH may also be
// the address of a node, unix:///PATH or https://HOST:PORT. Without NAME, a
// witness is named after its file, and witnesses of the same name are numbered.
func Open(args []string) ([]hunt.NamedLog, error) {
	out := make([]hunt.NamedLog, len(args))
	paths := slices.Clone(args)
	taken := map[string]bool{}
	for i, arg := range args {
		given, path, ok := strings.Cut(arg, "=")
		if !ok || !name.MatchString(given) {
			continue
		}
		if taken[given] {
			return nil, fmt.Errorf("two witnesses are called %q; give each another NAME=", given)
		}
		taken[given] = true
		out[i].Name, paths[i] = given, path
	}
	count := map[string]int{}
	for i, path := range paths {
		base := baseName(path)
		for out[i].Name == "" {
			made := base
			if count[base]++; count[base] > 1 {
				made = fmt.Sprintf("%s-%d", base, count[base])
			}
			if !taken[made] {
				out[i].Name = made
			}
		}
		if api.IsAddress(path) {
			ask, err := askNode(path, out[i].Name)
			if err != nil {
				return nil, fmt.Errorf("witness %s: %w", out[i].Name, err)
			}
			out[i].Ask = ask
			continue
		}
		log, err := ingest.Open(path)
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", out[i].Name, err)
		}
		out[i].Log = log
	}
	return out, nil
}

func baseName(path string) string {
	if path == ingest.Stdin {
		return "stdin"
	}
	base := filepath.Base(filepath.Clean(path))
	for _, suffix := range slices.Concat(unpack.Suffixes, []string{".log", ".json", ".pcapng", ".pcap", ".cap"}) {
		base = strings.TrimSuffix(base, suffix)
	}
	base = unnamable.ReplaceAllString(base, "-")
	if !name.MatchString(base) {
		return "witness"
	}
	return base
}
