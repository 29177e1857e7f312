package centre

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"dragnet/dossier"
	"dragnet/internal/state"
	"dragnet/signature"
	"dragnet/signature/family"
	"dragnet/signature/match"
	"dragnet/signature/sequence"
)

// maxClean bounds the clean traffic kept in memory, in bytes.
const maxClean = 64 << 20

// readClean reads the sequences of clean traffic.
func readClean(ctx context.Context, paths []string) ([][]byte, error) {
	all := sequence.Collector{Most: 1 << 20, Total: maxClean}
	for _, path := range paths {
		if _, err := sequence.Each(ctx, path, nil, all.Open, nil); err != nil {
			return nil, err
		}
	}
	return all.Sequences, nil
}

// learnPort learns the signatures of one port's payloads again.
func (s *Centre) learnPort(ctx context.Context, p portOf) error {
	began := s.now()
	samples, err := s.readPayloads(ctx, p)
	if err != nil || len(samples) == 0 {
		return err
	}
	prefix := fmt.Sprintf("trap-%s-%d", p.proto, p.port)
	learned, err := s.learnFamilies(ctx, prefix, samples)
	if err != nil {
		return err
	}
	if err := s.keepSignatures(ctx, prefix, learned); err != nil {
		return err
	}
	for _, l := range learned {
		s.learned.Inc()
		if l.problem != "" && !l.untested {
			s.withheld.Inc()
		}
		s.deps.Log.Info("signature learnt", "signature", l.signature.Name, "method", l.signature.Learning.Method, "samples", l.signature.Learning.Samples,
			"problem", l.problem, "took", s.now().Sub(began).Round(time.Millisecond))
	}
	return nil
}

func (s *Centre) readPayloads(ctx context.Context, p portOf) (samples [][]byte, err error) {
	err = s.deps.DB.View(ctx, func(tx *state.Tx) error {
		samples = nil
		return tx.Each(func(r *sql.Rows) error {
			var b []byte
			if err := r.Scan(&b); err != nil {
				return err
			}
			samples = append(samples, bytes.Clone(b))
			return nil
		}, `SELECT body FROM centre_payload WHERE proto = ? AND port = ? ORDER BY seq DESC LIMIT ?`, int64(p.proto), int64(p.port), s.c.Samples)
	})
	slices.Reverse(samples)
	return samples, err
}

// learned is a signature with what is wrong with it.
type learned struct {
	signature *dossier.Signature
	problem   string
	untested  bool
}

// learnFamilies sorts samples into families and learns a PADS for each; what
// belongs to none gets exact signatures.
func (s *Centre) learnFamilies(ctx context.Context, prefix string, samples [][]byte) (all []learned, err error) {
	clean := signature.NewClean(s.clean, samples)
	families, single := [][]int(nil), make([]int, len(samples))
	for i := range single {
		single[i] = i
	}
	if len(samples) >= s.c.Variants {
		r, err := family.Cluster(ctx, samples, clean.Background, family.Options{Least: s.c.Variants, Seed: 1, Normal: clean.Strings})
		if err != nil {
			return nil, err
		}
		families, single = r.Families, r.Outliers
	}
	for _, members := range families {
		var some [][]byte
		for _, i := range members {
			some = append(some, samples[i])
		}
		x, err := signature.Learn(ctx, some, clean, signature.Options{Name: prefix + "-" + nameOf(some[0])})
		if err != nil { // nothing in common after all: each by itself
			s.deps.Log.Warn("family not learnt; its payloads are matched exactly", "samples", len(some), "err", err)
			single = append(single, members...)
			continue
		}
		all = append(all, s.test(x))
	}
	for _, i := range single {
		x, err := signature.Learn(ctx, [][]byte{samples[i]}, clean, signature.Options{Name: prefix + "-" + nameOf(samples[i])})
		if err != nil {
			return nil, err
		}
		all = append(all, s.test(x))
	}
	return all, nil
}

// nameOf is short and the same for the same payload.
func nameOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:4])
}

// leastExact is what an exact signature must have to be matched by itself, in
// bytes: a honeypot that was taken over could send a byte or two, and have them
// found everywhere.
const leastExact = 16

// test matches a signature against the clean traffic.
func (s *Centre) test(x *dossier.Signature) learned {
	x.Made = s.now().UTC().Truncate(time.Second)
	for _, e := range x.Exact {
		if len(e.Bytes) < leastExact {
			return learned{x, fmt.Sprintf("withheld: a copy of %d bytes is too short to be matched by itself; want %d", len(e.Bytes), leastExact), false}
		}
	}
	if len(s.clean) == 0 {
		return learned{x, "untested: no clean traffic is configured (centre.clean)", true}
	}
	m, err := match.New([]*dossier.Signature{x}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return learned{x, err.Error(), false}
	}
	hits := 0
	for _, c := range s.clean {
		if m.Match(c)[0].Match {
			hits++
		}
	}
	if hits > 0 {
		return learned{x, fmt.Sprintf("withheld: it matches %d of %d sequences of clean traffic", hits, len(s.clean)), false}
	}
	return learned{x, "", false}
}

// keepSignatures replaces the signatures of a port.
func (s *Centre) keepSignatures(ctx context.Context, prefix string, all []learned) error {
	return s.deps.DB.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`DELETE FROM centre_signature WHERE name LIKE ?`, prefix+"-%"); err != nil {
			return err
		}
		for _, l := range all {
			body, err := dossier.EncodeSignature(l.signature, nil)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO centre_signature (name, learned, samples, problem, body) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET learned = excluded.learned, samples = excluded.samples, problem = excluded.problem, body = excluded.body`,
				l.signature.Name, s.now().UnixNano(), int64(l.signature.Learning.Samples), l.problem, body); err != nil {
				return err
			}
		}
		return nil
	})
}

// Listed is a signature of the centre. Its JSON form is the command line's.
type Listed struct {
	Name    string    `json:"signature"`
	Method  string    `json:"method"`
	Samples int       `json:"samples"`
	Learned time.Time `json:"learned"`
	// Problem says why it is withheld, or that it is untested; empty if it was
	// tested and matches no clean traffic.
	Problem string `json:"problem"`
	// Status is how the signature is used, and By who decided it; empty if nobody has.
	Status dossier.SignatureStatus `json:"status"`
	By     string                  `json:"by,omitempty"`
	// File is the signature file.
	File []byte `json:"-"`
	// learnt is the file without what people decided.
	learnt []byte
}

// ListSignatures lists the signatures of the centre in a database, by name.
func ListSignatures(ctx context.Context, db *state.DB) (all []Listed, err error) {
	err = db.View(ctx, func(tx *state.Tx) error {
		all = nil
		decisions, err := readLifecycles(tx)
		if err != nil {
			return err
		}
		return tx.Each(func(r *sql.Rows) error {
			var l Listed
			var at int64
			var body []byte
			if err := r.Scan(&l.Name, &at, &l.Samples, &l.Problem, &body); err != nil {
				return err
			}
			l.Learned, l.File = time.Unix(0, at).UTC(), bytes.Clone(body)
			l.learnt = l.File
			x, _, err := dossier.OpenSignature(l.File)
			if err != nil {
				return err
			}
			if d := decisions[l.Name]; d != nil {
				if err := apply(x, d); err != nil {
					return err
				}
				if l.File, err = dossier.EncodeSignature(x, nil); err != nil {
					return err
				}
			}
			l.Method, l.Status = x.Learning.Method, x.StatusAt(time.Now())
			if x.Lifecycle != nil {
				l.By = x.Lifecycle.By
			}
			all = append(all, l)
			return nil
		}, `SELECT name, learned, samples, problem, body FROM centre_signature ORDER BY name`)
	})
	return all, err
}
