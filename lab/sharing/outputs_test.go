package sharing_test

import (
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"dragnet/dossier"
	"dragnet/publish/mirror"
	"dragnet/publish/ocsf"
	"dragnet/publish/pointer"
	"dragnet/publish/stix"
)

// closedFinding is OCSF's activity of a finding that is over.
const closedFinding = 3

const listName = "7.100.51.198.bl.example.org."

// outputs is what each output says about the attacker.
func (p *published) outputs() map[string]string {
	p.Helper()
	out := map[string]string{
		"query":           p.get("/api/v1/entries?host=" + attackerAddress),
		"LAPI":            p.get("/v1/decisions?ip="+attackerAddress, "X-Api-Key", "edgekey"),
		"DNS list":        p.askDNS("10.99.1.1:53", listName, dns.TypeA) + p.askDNS("10.99.1.1:53", listName, dns.TypeTXT),
		"mirror":          p.get("/mirror/hosts4.txt"),
		"mirror, entries": p.get("/mirror/entries.jsonl"),
		"mirror, CSV":     p.get("/mirror/entries.csv"),
		"LAPI, stream":    p.get("/v1/decisions/stream?startup=true", "X-Api-Key", "edgekey2"),
		"query, pattern":  p.get("/api/v1/entries?pattern=" + url.QueryEscape("in dport=445")),
	}
	p.addLists(out)
	p.addEvents(out)
	p.addPointer(out)
	for _, name := range []string{"blocklist/nftables.nft", "blocklist/ipset.txt", "zeek/intel.dat", "suricata/reputation.list", "suricata/hosts.lst", "dnsbl/ip4.rbldnsd"} {
		out[name] = p.get("/mirror/" + name)
	}
	var all struct{ Collections []struct{ ID string } }
	if err := json.Unmarshal([]byte(p.get("/taxii2/dragnet/collections/")), &all); err != nil {
		p.Fatal(err)
	}
	for _, c := range all.Collections {
		objects := "/taxii2/dragnet/collections/" + c.ID + "/objects/?match[type]="
		out["TAXII "+c.ID] = p.get(objects + "ipv4-addr")
		for _, kind := range []string{"indicator", "sighting", "observed-data"} {
			out["TAXII "+kind+" "+c.ID] = p.sighted(p.get(objects+kind), kind)
		}
	}
	var events map[string]any
	if err := json.Unmarshal([]byte(p.get("/mirror/misp/manifest.json")), &events); err != nil {
		p.Fatal(err)
	}
	for id := range events {
		out["MISP"] += p.get("/mirror/misp/" + id + ".json")
	}
	out["MISP"] += " "
	out["MISP, hashes"] = strings.ReplaceAll(p.get("/mirror/misp/hashes.csv"), fmt.Sprintf("%x", md5.Sum([]byte(attackerAddress))), attackerAddress)
	for _, name := range []string{"owner.csv", "owner.eml"} {
		notice, err := os.ReadFile(filepath.Join(p.dir, "notices", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.Fatal(err)
		}
		out["owner's notice, "+name] = string(notice)
	}
	return out
}

// sighted names the attacker if there is an object about it that is not revoked.
// Sightings and observed data name it by identifiers of others.
func (p *published) sighted(envelope, kind string) string {
	p.Helper()
	var e struct {
		Objects []struct {
			Revoked     bool
			Pattern     string
			Description string
			ObjectRefs  []string `json:"object_refs"`
			Sighting    string   `json:"sighting_of_ref"`
		}
	}
	if err := json.Unmarshal([]byte(envelope), &e); err != nil {
		p.Fatal(err)
	}
	for _, o := range e.Objects {
		switch {
		case o.Revoked:
		case kind == "indicator" && strings.Contains(o.Pattern, attackerAddress),
			kind == "observed-data" && slices.Contains(o.ObjectRefs, "ipv4-addr--"+stix.AddressID(attackerAddress).String()),
			kind == "sighting" && strings.HasPrefix(o.Sighting, "indicator--"): // the other host comes and goes with it
			return attackerAddress
		}
	}
	return "none of " + strconv.Itoa(len(e.Objects))
}

// addLists adds the lists of each group and each pattern.
func (p *published) addLists(out map[string]string) {
	p.Helper()
	out["list of a group"], out["list of a pattern"] = " ", " "
	for line := range strings.Lines(p.get("/mirror/groups.jsonl")) {
		var g dossier.Group
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			p.Fatal(err)
		}
		out["list of a group"] += p.get("/mirror/group/" + g.ID + ".txt")
	}
	for line := range strings.Lines(p.get("/mirror/patterns.csv")) {
		if path, _, _ := strings.Cut(line, ","); path != "file" {
			out["list of a pattern"] += p.get("/mirror/" + path)
		}
	}
}

// addEvents adds what the last event and the last change say about the attacker.
func (p *published) addEvents(out map[string]string) {
	p.Helper()
	out["OCSF"], out["deltas"] = " ", " "
	for line := range strings.Lines(p.get("/mirror/ocsf/findings.jsonl")) {
		var e ocsf.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.Fatal(err)
		}
		if !strings.Contains(line, attackerAddress) {
			continue
		}
		if out["OCSF"] = " "; e.Activity != closedFinding {
			out["OCSF"] = line
		}
	}
	var m mirror.Manifest
	if err := json.Unmarshal([]byte(p.get("/mirror/"+mirror.ManifestName)), &m); err != nil {
		p.Fatal(err)
	}
	for _, f := range m.Files {
		if !strings.HasPrefix(f.Path, "delta/") {
			continue
		}
		for line := range strings.Lines(p.get("/mirror/" + f.Path)) {
			var c dossier.Change
			if json.Unmarshal([]byte(line), &c) != nil {
				continue // replaced by a newer publication meanwhile
			}
			if c.Entry.Host.String() != attackerAddress {
				continue
			}
			if out["deltas"] = " "; c.Kind != dossier.Removed {
				out["deltas"] = line
			}
		}
	}
}

// addPointer adds the list of the publication to which the distributed hash table
// points, found by the program on the edge.
func (p *published) addPointer(out map[string]string) {
	p.Helper()
	found := p.findPointer()
	for range 5 {
		var m mirror.Manifest
		if err := json.Unmarshal([]byte(p.get("/mirror/"+mirror.ManifestName)), &m); err != nil {
			p.Fatal(err)
		}
		if m.Head == found.Head {
			out["pointer"] = p.get("/mirror/hosts4.txt")
			return
		}
		found = p.findPointer() // the clearinghouse went on meanwhile
	}
	out["pointer"] = "not the newest publication"
}

func (p *published) findPointer() (found pointer.Found) {
	p.Helper()
	args := append([]string{"feed", "find"}, p.swarm.Addresses()...)
	text, err := p.edge.Run(p.Context(), program, append(args, "--publisher", p.key.Public().String(), "-o", "json")...)
	if err != nil {
		return found
	}
	if i := strings.Index(text, "{"); i < 0 || json.NewDecoder(strings.NewReader(text[i:])).Decode(&found) != nil {
		p.Fatalf("feed find printed %q", text)
	}
	return found
}

// lists reports whether an output's answer names the attacker.
func lists(name, answer string) bool {
	if name == "DNS list" {
		return strings.Contains(answer, "127.0.0.2")
	}
	return strings.Contains(answer, attackerAddress)
}

// checkMasked looks for who reported, and for a host of the allow list, in
// everything that is handed out.
func (p *published) checkMasked() {
	p.Helper()
	everything := p.outputs()
	tree := filepath.Join(p.dir, "feed", mirror.Current)
	resolved, err := filepath.EvalSymlinks(tree)
	if err != nil {
		p.Fatal(err)
	}
	files := 0
	err = fs.WalkDir(os.DirFS(resolved), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(resolved, path))
		everything["file "+path] = string(data)
		files++
		return err
	})
	if err != nil || files < 10 {
		p.Fatalf("%d files, %v", files, err)
	}
	for name, answer := range everything {
		if strings.Contains(answer, allowedAddress) {
			p.Errorf("%s lists a host of the allow list", name)
		}
		for member, k := range p.members {
			id := k.ID()
			for _, trace := range []string{member, "org:", k.Public().String(), fmt.Sprintf("%x", id[:]), string(id[:])} {
				if strings.Contains(answer, trace) {
					p.Errorf("%s names %s", name, member)
				}
			}
		}
	}
}
