package centre

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dragnet/dossier"
	"dragnet/node/agents"
	"dragnet/source/sensor"
)

// offer has sensors match the signatures that were tested and match no clean
// traffic: those of families before exact ones, the newest first, as far as there
// is room.
func (s *Centre) offer(ctx context.Context) error {
	if s.deps.Agents == nil {
		return nil
	}
	all, err := ListSignatures(ctx, s.deps.DB)
	if err != nil {
		return err
	}
	out := map[string]bool{} // copies of what went out of use
	for _, l := range all {
		out[asideName(&l)] = l.Status != dossier.SignatureActive
	}
	all = slices.DeleteFunc(all, func(l Listed) bool { return l.Problem != "" || !l.Status.IsMatched() })
	slices.SortFunc(all, func(a, b Listed) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Learned.Compare(a.Learned), cmp.Compare(a.Name, b.Name))
	})
	set := dossier.SignatureSet{Version: dossier.SignatureSetVersion, Signatures: []json.RawMessage{}}
	if len(s.resets.Decisions) > 0 {
		set.Resets = &s.resets
	}
	resets, err := json.Marshal(set.Resets)
	if err != nil {
		return err
	}
	aside, err := s.listSetAside(ctx)
	if err != nil {
		return err
	}
	aside = slices.DeleteFunc(aside, func(l Listed) bool { return out[l.Name] })
	all = slices.DeleteFunc(all, func(l Listed) bool { // its copy is matched in its place
		return slices.ContainsFunc(aside, func(a Listed) bool { return a.Name == asideName(&l) })
	})
	room := agents.MaxDocument - 1<<10 - len(resets)
	for _, l := range append(aside, all...) {
		if len(set.Signatures) < dossier.MaxSignatures && len(l.File) < room {
			set.Signatures, room = append(set.Signatures, l.File), room-len(l.File)-1
		}
	}
	body, err := json.Marshal(set)
	if err != nil {
		return err
	}
	version, err := s.deps.Agents.Configure(ctx, "sensor", "", sensor.SignaturesFormat, body)
	if err != nil {
		return err
	}
	s.offered.Set(float64(len(set.Signatures)))
	s.deps.Log.Info("signatures offered to sensors", "signatures", len(set.Signatures), "without_room", len(aside)+len(all)-len(set.Signatures), "resets", len(s.resets.Decisions), "version", version)
	return nil
}

// rank orders signatures of families before exact ones.
func rank(l Listed) int {
	if l.Method == "exact" {
		return 1
	}
	return 0
}

// sharedPrefix begins the names of other organisations' signatures.
const sharedPrefix = "shared"

// IsShared reports whether the signature is another organisation's.
func (l *Listed) IsShared() bool { return strings.HasPrefix(l.Name, sharedPrefix+"-") }

// readTrusted reads the public keys of those whose signatures are taken.
func readTrusted(files []string) (keys []ed25519.PublicKey, err error) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := dossier.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; 'openssl pkey -in key.pem -pubout' writes one", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// listShared lists the files in the shared folders, with a text that changes when
// one of them does.
func (s *Centre) listShared() (files []string, state string, err error) {
	for _, dir := range s.c.Shared {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may come later
			return nil, "", err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".json") {
				continue
			}
			files = append(files, filepath.Join(dir, e.Name()))
			state += fmt.Sprintf("%s %d %d\n", files[len(files)-1], info.Size(), info.ModTime().UnixNano())
		}
	}
	return files[:min(len(files), dossier.MaxSignatures)], state, nil
}

// takeShared reads the signatures that other organisations shared if they changed
// since the last time, and tests them against our own clean traffic. It reports
// whether they did.
func (s *Centre) takeShared(ctx context.Context) (bool, error) {
	files, state, err := s.listShared()
	if err != nil || state == s.sharedState {
		return false, err
	}
	var all []learned
	for _, file := range files {
		l, err := s.openShared(file)
		if err != nil {
			s.refused.Inc()
			s.deps.Log.Warn("shared signature rejected", "file", file, "err", err)
			continue
		}
		all = append(all, l)
	}
	if err := s.keepSignatures(ctx, sharedPrefix, all); err != nil {
		return false, err
	}
	s.sharedState = state
	s.deps.Log.Info("shared signatures read", "taken", len(all), "of", len(files))
	return true, nil
}

// openShared reads one; its name says whose it is.
func (s *Centre) openShared(file string) (l learned, err error) {
	if info, err := os.Stat(file); err != nil || info.Size() > agents.MaxDocument {
		return l, cmp.Or(err, fmt.Errorf("the file has more than %d bytes", agents.MaxDocument))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	x, by, err := dossier.OpenSignature(text, s.trusted...)
	if err != nil {
		return l, err
	}
	made, sum := x.Made, sha256.Sum256(by)
	x.Name = fmt.Sprintf("%s-%s-%s", sharedPrefix, hex.EncodeToString(sum[:4]), x.Name)
	x.Name = x.Name[:min(len(x.Name), 64)]
	l = s.test(x)
	x.Made = made
	return l, nil
}
